"""Which models are served, from where and in which versions: TensorFlow Serving's configuration, read and checked.

The checks and their words are those of TensorFlow Serving 2.14.1, so that what is accepted here is accepted there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from trt_pipeline.errors import ConfigError, ModelError, one_line
from trt_pipeline.frozen import Frozen
from trt_pipeline.publish.layout import FOLDER_IN_SERVER, TRITON_FOLDER
from trt_pipeline.serve.refusal import Code, RefusalError, invalid
from trt_pipeline.serve.version_folders import LOADABLE, versions_below

_PUBLISH_FIRST = "run trt-pipeline optimize NAME first"
Platform = Literal["tensorflow", "onnxruntime"]
_PLATFORMS = ("tensorflow", "onnxruntime")


class Latest(Frozen):
    """Serve the newest ``versions`` versions."""

    versions: int = 1


class All(Frozen):
    """Serve every version that there is."""


class Specific(Frozen):
    """Serve these versions, as far as they exist."""

    versions: tuple[int, ...]


class ModelConfig(Frozen):
    """One model. ``labels`` maps a label to the version that it names."""

    name: str
    base_path: Path
    platform: str = "tensorflow"
    policy: Latest | All | Specific = Latest()
    labels: dict[str, int] = {}


class ServerConfig(Frozen):
    """All models of a server; no name occurs twice."""

    models: tuple[ModelConfig, ...]
    source: Path | None = None
    """The file or the serving folder that says so, to be read again now and then (`again`); None where nothing does."""

    def model(self, name: str) -> ModelConfig | None:
        """The model called ``name``, or None."""
        return next((model for model in self.models if model.name == name), None)


def read(path: Path) -> ServerConfig:
    """The configuration in the text proto file ``path``, as ``tensorflow_model_server --model_config_file`` reads it.

    Raises:
        ConfigError: the file cannot be read, is no ModelServerConfig, or says what no server can do.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {getattr(error, 'strerror', '') or error}; "
                          "give a models.config, which trt-pipeline optimize writes") from None
    source = path.resolve()
    try:
        config = of_proto(text_format.Parse(text, model_server_config_pb2.ModelServerConfig()))
        check_platforms(config)
        return located(config, source.parent).model_copy(update={"source": source})
    except text_format.ParseError as error:
        raise ConfigError(f"{path} is not a ModelServerConfig: {one_line(error)}") from None
    except RefusalError as refused:
        raise ConfigError(f"{path}: {refused.message}") from None


def of_proto(message: Any) -> ServerConfig:
    """The configuration that a ``ModelServerConfig`` message holds.

    Raises:
        RefusalError: INVALID_ARGUMENT in the words of TensorFlow Serving.
    """
    if message.WhichOneof("config") != "model_config_list":
        raise invalid("ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                       "currently supported")
    entries = list(message.model_config_list.config)
    names = [entry.name for entry in entries]
    for index, name in enumerate(names):
        if not name:
            raise invalid(f"Model {index + 1} of the config list has no name")
        if name in names[:index]:
            raise invalid(f"Illegal to list model {name} multiple times in config list")
    return ServerConfig(models=tuple(_of_entry(entry) for entry in entries))


def of_folders(folders: Mapping[str, Path]) -> ServerConfig:
    """The newest version of each model, name -> base path.

    Raises:
        ModelError: there are no models, or a base path has no version.
    """
    if not folders:
        raise ModelError(f"no models to serve: {_PUBLISH_FIRST}")
    for name, base in folders.items():
        if not versions_below(base):
            raise ModelError(f"no version of {name} in {base}: it needs {base}/NUMBER/saved_model.pb; {_PUBLISH_FIRST}")
    return ServerConfig(models=tuple(
        ModelConfig(name=name, base_path=base.resolve(), platform=_platform_of(base))
        for name, base in folders.items()))


def find(serving: Path) -> ServerConfig:
    """The newest version of every model below ``serving``; of Triton's repository there, nothing.

    Raises:
        ModelError: there is none.
    """
    folders = sorted(serving.iterdir()) if serving.is_dir() else []
    found = {folder.name: folder for folder in folders
             if not folder.name.startswith(".") and folder.name != TRITON_FOLDER and _loadable(folder)}
    if not found:
        raise ModelError(f"no model below {serving}: {_PUBLISH_FIRST}")
    return of_folders(found).model_copy(update={"source": serving.resolve()})


def again(config: ServerConfig) -> ServerConfig:
    """What the source of ``config`` says now; ``config`` itself where it has none.

    Raises:
        ConfigError, ModelError: as `read` and `find`.
    """
    if config.source is None:
        return config
    return find(config.source) if config.source.is_dir() else read(config.source)


def located(config: ServerConfig, folder: Path) -> ServerConfig:
    """``config`` with the models that are not on this machine below /models looked for below ``folder``.

    /models is where the containers of a publication have its folder.
    """
    def path_of(path: Path) -> Path:
        elsewhere = path.is_relative_to(FOLDER_IN_SERVER) and not path.exists()
        return folder / path.relative_to(FOLDER_IN_SERVER) if elsewhere else path

    return config.model_copy(update={"models": tuple(
        model.model_copy(update={"base_path": path_of(model.base_path)}) for model in config.models)})


def check_change(old: ServerConfig, new: ServerConfig) -> None:
    """Refuse, with INVALID_ARGUMENT, a ``new`` configuration in which a model changes its platform."""
    for model in new.models:
        before = old.model(model.name)
        if before and before.platform != model.platform:
            raise invalid(f"Illegal to change a model's platform. For model {model.name} platform was "
                           f"{before.platform} and new platform requested is {model.platform}")


def check_platforms(config: ServerConfig) -> None:
    """Refuse, with INVALID_ARGUMENT, a platform that this server does not know; `check_change` comes before."""
    for model in config.models:
        if model.platform not in _PLATFORMS:
            raise invalid(f"Model {model.name} requests unsupported platform {model.platform}")


def check_versions(models: tuple[ModelConfig, ...]) -> None:
    """Refuse models that nothing can be loaded of, as their base path is missing or has no version."""
    for model in models:
        versions = versions_below(model.base_path)
        if versions is None:
            raise invalid(f"Could not find base path {model.base_path} for servable {model.name} with error "
                           f"NOT_FOUND: {model.base_path} not found")
        if not versions:
            raise RefusalError(Code.NOT_FOUND, "Unable to find a numerical version path for servable "
                                               f"{model.name} at: {model.base_path}")


def _of_entry(entry: Any) -> ModelConfig:
    return ModelConfig(name=entry.name, base_path=_base_path(entry), platform=_platform(entry),
                       policy=_policy(entry.model_version_policy), labels=dict(entry.version_labels))


def _base_path(entry: Any) -> Path:
    text = entry.base_path.removeprefix("file://")
    if "://" in text:
        raise invalid(f"Model {entry.name} is at {entry.base_path}: this server serves folders of its own machine "
                       "only; copy it to one")
    path = Path(text)
    if not path.is_absolute():
        raise invalid(f"Expected model {entry.name} to have an absolute path or URI; got base_path()="
                       f"{entry.base_path}")
    return path


def _platform(entry: Any) -> str:
    kind, platform = entry.model_type, entry.model_platform  # the former is deprecated
    both = "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform"
    neither = "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform"
    if kind and platform:
        raise invalid(f"{both}, model name is {entry.name}")
    if kind:
        if kind != type(entry).DESCRIPTOR.fields_by_name["model_type"].enum_type.values_by_name["TENSORFLOW"].number:
            raise invalid(f"ModelServerConfig::model_type choice {kind} not supported.")
        return "tensorflow"
    if not platform:
        raise invalid(f"{neither}, model name is {entry.name}")
    return str(platform)


def _policy(message: Any) -> Latest | All | Specific:
    choice = message.WhichOneof("policy_choice")
    if choice == "all":
        return All()
    if choice == "specific":
        return Specific(versions=tuple(message.specific.versions))
    return Latest(versions=max(message.latest.num_versions, 1))


def _platform_of(base: Path) -> Platform:
    folders = (versions_below(base) or {}).values()
    return "onnxruntime" if any((folder / "model.onnx").is_file() for folder in folders) else "tensorflow"


def _loadable(base: Path) -> bool:
    return any((folder / file).exists() for folder in (versions_below(base) or {}).values() for file in LOADABLE)
