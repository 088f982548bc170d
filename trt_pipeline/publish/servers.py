"""Which servers, at which versions, can load which kinds of artifact, and which TensorRT they have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from trt_pipeline.backends.base import ArtifactKind

Version = tuple[int, ...]
_GPU_IMAGE = "-gpu"
# ONNX opset 17 needs ONNX Runtime 1.12, which came to Triton with 22.08.
_OLDEST_TRITON = (22, 8)
_OLDEST_TF_SERVING = (2,)
TENSORRT = "tensorrt"
VERSION_COMPATIBLE = "version compatible"
"""Keys of `Artifact.built`: the TensorRT that engines were built with, and whether later ones load them too."""

# Of the image tritonserver:YY.MM-py3: what the release notes, a maintainer or the server's own error message says;
# of 22.08 to 23.01 and of 24.03, what its users say. Months that are not here are not known to us.
_TRITON_TENSORRT: dict[Version, str] = {
    (22, 8): "8.4.2.4", (22, 11): "8.5.1", (22, 12): "8.5.1", (23, 1): "8.5.2", (23, 4): "8.6.1.2",
    (23, 5): "8.6.1.2", (24, 2): "8.6.3", (24, 3): "8.6.3", (24, 5): "10.0.1.6", (24, 8): "10.3.0.26",
    (24, 10): "10.5.0.18", (24, 12): "10.7.0.23"}
# What the Dockerfile.gpu of TensorFlow Serving installs.
_TF_SERVING_TENSORRT: dict[Version, str] = {(2, 14): "8.4.3", (2, 15): "8.6.1.6", (2, 16): "8.6.1.6",
                                            (2, 17): "8.6.1.6"}
# The newest release of each; there are no images that are called 2.14.
_TF_SERVING_RELEASES: dict[Version, int] = {(2, 11): 1, (2, 12): 2, (2, 13): 1, (2, 14): 1, (2, 15): 1, (2, 16): 1,
                                            (2, 17): 1, (2, 18): 0, (2, 19): 0}


@dataclass(frozen=True)
class _Versions:
    """Versions of a server, ends included; ``last`` is None where no end is known."""

    first: Version
    last: Version | None = None
    gpu_image: bool = False

    def __contains__(self, version: Version) -> bool:
        return self.first <= version and (self.last is None or version[:len(self.last)] <= self.last)


# TF-TRT is compiled into TensorFlow up to 2.17, and TensorFlow Serving's version is its own. Triton's last image with
# a TensorFlow backend is 25.02; its first whose TensorRT is as new as the oldest that engines are built with is 22.11.
_TF_SERVING: dict[ArtifactKind, _Versions] = {
    "savedmodel": _Versions(_OLDEST_TF_SERVING),
    "tensorrt-savedmodel": _Versions((2, 14), (2, 17), gpu_image=True)}
_TRITON: dict[ArtifactKind, _Versions] = {
    "onnx": _Versions(_OLDEST_TRITON),
    "tensorrt-plan": _Versions((22, 11)),
    "savedmodel": _Versions(_OLDEST_TRITON, (25, 2)),
    "tensorrt-savedmodel": _Versions(_OLDEST_TRITON, (25, 2))}
# Who loads what, for people.
LOADERS: dict[ArtifactKind, str] = {
    "savedmodel": "TensorFlow Serving, NVIDIA Triton 22.08 to 25.02",
    "onnx": "NVIDIA Triton from 22.08 on",
    "tensorrt-savedmodel": "TensorFlow Serving 2.14-gpu to 2.17-gpu, not older than the TensorFlow that converted; "
                           "NVIDIA Triton 22.08 to 25.02. Built engines want the very TensorRT and GPU of their build",
    "tensorrt-plan": "NVIDIA Triton from 22.11 on, with the very TensorRT and GPU of the build",
}
_WITH_ENGINES = ("tensorrt-plan", "tensorrt-savedmodel")
_SHOWN: dict[ArtifactKind, str] = {
    "savedmodel": "SavedModel (`original`, `tensorflow`)",
    "onnx": "ONNX (`onnxruntime`)",
    "tensorrt-savedmodel": "SavedModel with engines in it (`tf-trt`; `tensorrt`, grafted)",
    "tensorrt-plan": "TensorRT plan (`tensorrt`)",
}
_WITH_WHICH_TENSORRT: dict[ArtifactKind, str] = {
    "savedmodel": "any or none",
    "onnx": "any or none",
    "tensorrt-savedmodel": "that of the build, which can be put into TensorFlow Serving's image; that of the image "
                           "where engines are built there",
    "tensorrt-plan": "that of the build, to the last number; a version-compatible engine also with later ones",
}


def parse_version(text: str) -> Version:
    """``"24.10"`` as (24, 10). Raises ValueError for anything that is not numbers and dots."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})*(-gpu)?", text):
        raise ValueError(f"'{text}' is not a server version such as 2.14.1 or 24.10")
    return tuple(int(part) for part in text.removesuffix(_GPU_IMAGE).split("."))


def loadable_kinds(server: str, version: str) -> tuple[ArtifactKind, ...]:
    """Kinds of artifact that ``server`` loads at ``version``.

    TensorFlow Serving loads SavedModels; those with TensorRT segments only its GPU images do, up to
    2.17 ("2.14.1-gpu"). Triton's last image with a TensorFlow backend is 25.02.

    Raises:
        ValueError: the server or version is unknown.
    """
    number = parse_version(version)
    if len(number) < len(("major", "minor")):
        raise ValueError(f"'{version}' is half a server version: write one such as 2.14 or 24.10")
    if server == "tf-serving":
        if number < _OLDEST_TF_SERVING:
            raise ValueError(f"TensorFlow Serving {version} does not load TensorFlow 2 models; name 2.14 or later")
        gpu_image = version.endswith(_GPU_IMAGE)
        return tuple(kind for kind, versions in _TF_SERVING.items()
                     if number in versions and (gpu_image or not versions.gpu_image))
    if server == "triton":
        if number < _OLDEST_TRITON:
            raise ValueError(f"Triton {version} is too old for the ONNX opset that is published; name 22.08 or later")
        return tuple(kind for kind, versions in _TRITON.items() if number in versions)
    raise ValueError(f"no server '{server}'")


def tensorrt_of(server: str, version: str) -> str | None:
    """The TensorRT in the image of ``server`` at ``version``; None where there is none, or it is not known."""
    number = parse_version(version)[:2]
    if server == "triton":
        return _TRITON_TENSORRT.get(number)
    return _TF_SERVING_TENSORRT.get(number) if version.endswith(_GPU_IMAGE) else None


def why_not_load(kind: ArtifactKind, built: Mapping[str, str], server: str, version: str) -> str:
    """Why ``server`` at ``version`` cannot load an artifact, in one line; empty where it can, as far as is known.

    What is in Triton's image belongs together. Into TensorFlow Serving's another TensorRT can be put, so
    that is for `what_to_mind`.

    Args:
        built: the artifact's `Artifact.built`.
    """
    loadable = loadable_kinds(server, version)
    if kind not in loadable:
        return f"{server} {version} loads {', '.join(loadable)}, and this is a {kind}"
    theirs, own = tensorrt_of(server, version), built.get(TENSORRT, "")
    if kind == "tensorrt-plan" and not own:
        return "its engine is not built yet: finalize it on the GPU that is to serve it"
    if server != "triton" or kind not in _WITH_ENGINES or not _number(own) or theirs is None or _same(own, theirs):
        return ""
    if kind == "tensorrt-plan" and VERSION_COMPATIBLE in built and _number(theirs) > _number(own):
        return ""
    fitting = [_month(month) for month, tensorrt in _TRITON_TENSORRT.items() if _same(tensorrt, own)]
    other = f", or serve it with Triton {' or '.join(fitting)}" if fitting else ""
    return (f"it was built with TensorRT {own} and {server} {version} has {theirs}: build it in "
            f"nvcr.io/nvidia/tensorrt:{version}-py3, which has that too{other}")


def release(server: str, version: str) -> str:
    """The tag of ``server``'s image for ``version``: ``2.14`` is 2.14.1 of TensorFlow Serving, ``24.10`` 24.10-py3."""
    number = parse_version(version)
    if server == "triton":
        return f"{_month(number)}-py3"
    if len(number) == len(("major", "minor")):
        number = (*number, _TF_SERVING_RELEASES.get(number, 0))
    return _dotted(number) + (_GPU_IMAGE if version.endswith(_GPU_IMAGE) else "")


def image(server: str, version: str) -> str:
    """The container image of ``server`` at ``version``."""
    name = "nvcr.io/nvidia/tritonserver" if server == "triton" else "tensorflow/serving"
    return f"{name}:{release(server, version)}"


def on_gpu(server: str, version: str) -> bool:
    """Whether the image of TensorFlow Serving at ``version`` uses a GPU. Triton's all can."""
    return server == "triton" or version.endswith(_GPU_IMAGE)


def needs_gpu(kind: ArtifactKind) -> bool:
    """Whether what is published runs on a GPU only."""
    return kind in _WITH_ENGINES


def what_to_mind(kind: ArtifactKind, built: Mapping[str, str], server: str, version: str) -> str:
    """What ``server`` needs besides to serve built engines that `why_not_load` lets pass; empty where nothing."""
    theirs, own = tensorrt_of(server, version), built.get(TENSORRT, "")
    if not _number(own) or kind not in _WITH_ENGINES:
        return ""
    if theirs is None:
        return f"its engines want a server with TensorRT {own}"
    if _same(own, theirs):
        return ""
    if kind == "tensorrt-plan":
        return (f"built with TensorRT {own}, it loads in {theirs} where Triton is started with "
                "--backend-config=tensorrt,version-compatible=true")
    return (f"its engines want TensorRT {own}, and the image of {server} {version} has {theirs}: put libnvinfer {own} "
            "into the image, or they do not run")


def table() -> str:
    """Two Markdown tables for the README: which output loads where, and which TensorRT is there."""
    lines = ["| output | TensorFlow Serving | NVIDIA Triton | TensorRT |", "|---|---|---|---|"]
    lines += [f"| {_SHOWN[kind]} | {_span(_TF_SERVING.get(kind))} | {_span(_TRITON.get(kind))} | "
              f"{_WITH_WHICH_TENSORRT[kind]} |" for kind in _SHOWN]
    lines += ["", "| image | TensorRT |", "|---|---|"]
    serving, triton = (_by_tensorrt(known) for known in (_TF_SERVING_TENSORRT, _TRITON_TENSORRT))
    lines += [f"| `tensorflow/serving:` {', '.join(f'{_dotted(v)}-gpu' for v in versions)} | {tensorrt} |"
              for tensorrt, versions in serving.items()]
    lines += [f"| `tritonserver:` {', '.join(f'{_month(v)}-py3' for v in versions)} | {tensorrt} |"
              for tensorrt, versions in triton.items()]
    return "\n".join(lines) + "\n"


def _number(text: str) -> Version:
    return tuple(int(part) for part in re.findall(r"[0-9]+", text))


def _same(one: str, other: str) -> bool:
    """Whether two TensorRT versions agree in as many numbers as both name: its builds refuse each other's engines."""
    pairs = list(zip(_number(one), _number(other), strict=False))
    return bool(pairs) and all(a == b for a, b in pairs)


def _by_tensorrt(known: dict[Version, str]) -> dict[str, list[Version]]:
    return {tensorrt: [v for v, has in known.items() if has == tensorrt] for tensorrt in dict.fromkeys(known.values())}


def _span(versions: _Versions | None) -> str:
    if versions is None:
        return "-"
    show = _month if versions.first > (20,) else _dotted
    gpu = ", `-gpu` images" if versions.gpu_image else ""
    if versions.last is None:
        return ("all of 2" if versions.first == _OLDEST_TF_SERVING else f"from {show(versions.first)} on") + gpu
    return f"{show(versions.first)} to {show(versions.last)}{gpu}"


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _month(version: Version) -> str:
    return f"{version[0]}.{version[1]:02}"
