"""Which servers, at which versions, can load which kinds of artifact."""

from __future__ import annotations

import re

from trt_pipeline.backends.base import ArtifactKind

Version = tuple[int, ...]
# ONNX opset 17 needs ONNX Runtime 1.12, which came to Triton with 22.08.
_OLDEST_TRITON = (22, 8)
# The last TensorFlow with TF-TRT compiled in is 2.17, and TensorFlow Serving's version is its own.
_FIRST_TF_SERVING_WITHOUT_TF_TRT = (2, 18)
_GPU_IMAGE = "-gpu"
# Who loads what, for people.
LOADERS: dict[ArtifactKind, str] = {
    "savedmodel": "TensorFlow Serving, NVIDIA Triton 22.08 to 25.02",
    "onnx": "NVIDIA Triton from 22.08 on",
    "tensorrt-savedmodel": "TensorFlow Serving 2.14-gpu to 2.17-gpu, not older than the TensorFlow that converted; "
                           "NVIDIA Triton 22.08 to 25.02. Built engines want the very TensorRT and GPU of their build",
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
    if server == "tf-serving":
        if number < (2,):
            raise ValueError(f"TensorFlow Serving {version} does not load TensorFlow 2 models; name 2.14 or later")
        tensorrt = version.endswith(_GPU_IMAGE) and number < _FIRST_TF_SERVING_WITHOUT_TF_TRT
        return ("savedmodel", "tensorrt-savedmodel") if tensorrt else ("savedmodel",)
    if server == "triton":
        if number < _OLDEST_TRITON:
            raise ValueError(f"Triton {version} is too old for the ONNX opset that is published; name 22.08 or later")
        return ("onnx", "savedmodel", "tensorrt-savedmodel") if number <= (25, 2, 999) else ("onnx",)
    raise ValueError(f"no server '{server}'")
