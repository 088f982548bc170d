"""Which servers a serving folder asks for: their versions, what they hold in memory, and whether they need a GPU."""

from __future__ import annotations

from collections.abc import Sequence

from trt_pipeline.config.schema import Config
from trt_pipeline.frozen import Frozen
from trt_pipeline.publish import memory, servers
from trt_pipeline.publish.layout import BATCHING, FOLDER_IN_SERVER
from trt_pipeline.publish.memory import GpuLimit
from trt_pipeline.publish.served import Model

# Later versions of TensorFlow Serving read batching parameters from a version's folder.
_BATCHING_BY_VERSION = (2, 11)
_DEFAULT = {"tf-serving": Config.model_fields["targets"].default[0].version, "triton": "24.10"}


class Server(Frozen):
    """One server process, and what it holds."""

    kind: str
    version: str
    """As a target of the configuration names it."""
    models: tuple[str, ...]
    gpu: bool
    """Whether it is given a GPU."""
    host_limit_mb: int | None
    gpu_limit: GpuLimit | None
    batching: tuple[str, ...] = ()
    """Flags of TensorFlow Serving's batcher."""
    notes: tuple[str, ...] = ()
    """What to know of it, a line each."""

    @property
    def image(self) -> str:
        return servers.image(self.kind, self.version)


def server(kind: str, models: Sequence[Model]) -> Server:
    """The server of ``kind`` that holds all of ``models``."""
    version, notes = _version(kind, models)
    gpu = servers.on_gpu(kind, version) if kind == "tf-serving" else any(_on_gpu(model) for model in models)
    figures = [figure for model in models for figure in model.memories]
    host, limit = memory.host_limit_mb(figures), memory.gpu_limit(figures) if gpu else None
    if host is None:
        notes.append("no limit of memory: that of some model was never measured")
    elif any(figure.of_original for figure in figures):
        notes.append("where a candidate cannot run on the machine that made it, the original's memory was taken")
    flags: tuple[str, ...] = ()
    if kind == "tf-serving":
        flags, why = _batching(version, models)
        notes += [why] if why else []
    return Server(kind=kind, version=version, models=tuple(model.name for model in models), gpu=gpu, notes=tuple(notes),
                  host_limit_mb=host, gpu_limit=limit, batching=flags)


def _version(kind: str, models: Sequence[Model]) -> tuple[str, list[str]]:
    """Of the versions that targets name, one that loads everything, and why it does not where none does.

    Without a need for the GPU, an image that has none is preferred; then the newest.
    """
    wanted = sorted({version for model in models for version in model.record.targets.get(kind, ())} or {_DEFAULT[kind]},
                    key=lambda version: (version.endswith("-gpu"), [-n for n in servers.parse_version(version)]))
    refused = {version: [f"{model.name} version {one.number} cannot be loaded: {why}" for model in models
                         for one in model.versions
                         if (why := servers.why_not_load(one.kind, one.built, kind, version))] for version in wanted}
    best = min(wanted, key=lambda version: len(refused[version]))
    minded = {f"{model.name} version {one.number}: {what}" for model in models for one in model.versions
              if (what := servers.what_to_mind(one.kind, one.built, kind, best))}
    return best, [*refused[best], *sorted(minded)]


def _on_gpu(model: Model) -> bool:
    """Whether ``model`` needs a GPU, or was measured on one."""
    return any(servers.needs_gpu(one.kind) or one.memory.gpu for one in model.versions)


def _batching(version: str, models: Sequence[Model]) -> tuple[tuple[str, ...], str]:
    """Flags that switch the batcher on where it does no harm, and why they do not where it would."""
    served = [one for model in models for one in model.versions]
    flags = ("--enable_batching=true", f"--batching_parameters_file={FOLDER_IN_SERVER}/{BATCHING}")
    if servers.parse_version(version) >= _BATCHING_BY_VERSION:
        if any(one.batched for one in served):
            return (*flags, "--enable_per_model_batching_parameters=true"), ""
        return (), "no batching: requests to these models differ in shape, and cannot share a batch"
    sizes = {one.batches.sizes if one.batched and one.batches else None for one in served}
    if len(sizes) == 1 and None not in sizes:
        return flags, ""
    return (), "no batching: these models differ in the batches that they take, and one file is for all up to 2.10"
