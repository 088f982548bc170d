"""What to serve, and how to batch it, where a user names it only in part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trt_pipeline.errors import ConfigError
from trt_pipeline.publish.layout import BATCHING, MODELS
from trt_pipeline.serve import batching_parameters, models_config
from trt_pipeline.serve.batching_parameters import BatchingParameters
from trt_pipeline.serve.models_config import ServerConfig


def choose(folders: Mapping[str, Path], config: Path | None, serving: Path) -> ServerConfig:
    """The models of ``folders`` or ``config``; else of the models.config in ``serving``; else all there.

    Args:
        folders: name -> base path, the folder that holds the numeric versions.

    Raises:
        ConfigError: both are given, or the configuration is wrong.
        ModelError: there is no model, or one has no version.
    """
    if folders and config:
        raise ConfigError("--model and --config: give one of them")
    if folders:
        return models_config.of_folders(folders)
    if config or (serving / MODELS).is_file():
        return models_config.read(config or serving / MODELS)
    return models_config.find(serving)


def batching_of(file: Path | None, serving: Path) -> BatchingParameters | None:
    """The batching parameters in ``file``, else those in ``serving``; None where there are none.

    Raises:
        ConfigError: they are wrong.
    """
    if file is None and not (serving / BATCHING).is_file():
        return None
    return batching_parameters.read(file or serving / BATCHING)
