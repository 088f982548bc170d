"""Read a configuration file; every complaint names the file, the line and, for a typo, the nearest word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from trt_pipeline.config import complaints
from trt_pipeline.config.schema import Config
from trt_pipeline.errors import ConfigError, one_line
from trt_pipeline.suggest import did_you_mean

CONFIG_FOLDER = Path("configs")
# Nobody writes a configuration this large; anything larger is not one.
_LARGEST_BYTES = 2**20


def find(name_or_path: str) -> Path:
    """The configuration file that a user means by ``enko`` or ``configs/enko.yaml``.

    Raises:
        ConfigError: there is none; known names are listed.
    """
    for path in (Path(name_or_path), CONFIG_FOLDER / f"{name_or_path}.yaml"):
        if path.is_file():
            return path
    known = sorted(p.stem for p in CONFIG_FOLDER.glob("*.yaml"))
    raise ConfigError(f"no configuration '{name_or_path}': {CONFIG_FOLDER} has {', '.join(known) or 'none'}"
                      f"{did_you_mean(name_or_path, known)}; 'trt-pipeline init MODEL --name NAME' writes one")


def load(path: Path) -> Config:
    """The configuration in ``path``.

    Raises:
        ConfigError: it is not YAML, or says something that the schema does not know.
    """
    if path.stat().st_size > _LARGEST_BYTES:
        raise ConfigError(f"{path} is larger than 1 MiB: that is no configuration")
    values, document = _read(path)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}:{complaints.complaint(error, document)}") from None


def _read(path: Path) -> tuple[dict[Any, Any], yaml.Node]:
    """The values in ``path``, and the nodes that know their lines."""
    try:
        text = path.read_text()
        document = yaml.compose(text, Loader=yaml.SafeLoader)
        if document is not None and (refused := complaints.refused_construct(document)):
            raise ConfigError(f"{path}:{refused}")
        values = yaml.safe_load(text)
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigError(f"{path}{f':{mark.line + 1}' if mark else ''}: not YAML: {problem}") from None
    except (ValueError, KeyError, AttributeError, OverflowError) as error:
        # PyYAML lets these escape for values such as 2024-13-45 or !!int x.
        raise ConfigError(f"{path}: a value cannot be read: {one_line(error, longest=120)}") from None
    if document is None or not isinstance(values, dict):
        raise ConfigError(f"{path}: a configuration is a mapping with at least name, model and samples")
    return values, document
