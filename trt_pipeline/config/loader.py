"""Read a configuration file; every complaint names the file, the line and, for a typo, the nearest word."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from trt_pipeline.config.schema import Config
from trt_pipeline.errors import ConfigError
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
    try:
        text = path.read_text()
        document = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigError(f"{path}{f':{mark.line + 1}' if mark else ''}: not YAML: {problem}") from None
    if document is None or not isinstance(values, dict):
        raise ConfigError(f"{path}: a configuration is a mapping with at least name, model and samples")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}:{_complaint(error, document)}") from None


def _complaint(error: ValidationError, document: yaml.Node) -> str:
    """The first complaint as ``LINE: what``."""
    first: Any = error.errors()[0]
    keys = [part for part in first["loc"] if isinstance(part, (str, int))]
    place = ".".join(str(key) for key in keys if not _is_schema_detail(key, keys, document))
    line = _line(document, keys)
    if first["type"] == "extra_forbidden":
        known = _fields(keys[:-1])
        return f"{line}: unknown key '{place}'{did_you_mean(str(keys[-1]), known) or _known(known)}"
    if first["type"] == "missing":
        return f"{line}: '{place}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"{line}: {f'{place}: ' if place else ''}{message}"


def _known(names: list[str]) -> str:
    return f"; there are {', '.join(names)}" if names else ""


def _is_schema_detail(key: object, keys: list[Any], document: yaml.Node) -> bool:
    """Pydantic names the branch of a union ('str', 'dict[str,str]') in an error's place; users wrote none."""
    return isinstance(key, str) and (key in ("str", "float", "int") or "[" in key)


def _line(node: yaml.Node, keys: list[Any]) -> int:
    """1-based line of the deepest part of ``keys`` that stands in the document."""
    line = node.start_mark.line
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(key)]
            if not found:
                continue
            line, node = found[0][0].start_mark.line, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line
    return line + 1


def _fields(keys: list[Any]) -> list[str]:
    """Names of the schema's fields below ``keys``."""
    model: Any = Config
    for key in keys:
        if isinstance(model, type) and issubclass(model, BaseModel) and key in model.model_fields:
            model = _inner_model(model.model_fields[key].annotation)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _inner_model(annotation: Any) -> Any:
    """The Pydantic model inside ``tuple[Model, ...]``, ``dict[str, Model]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (inner := _inner_model(argument)) is not None:
            return inner
    return None
