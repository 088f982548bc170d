"""Run a SavedModel whose TensorRT engines are built, and hold it to them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from trt_pipeline.backends.base import Array
from trt_pipeline.backends.saved_model_runner import SavedModelRunner
from trt_pipeline.conversion.tftrt.listener import Listener

# TF-TRT asks for this at every request: where it is off, a request that no engine takes is an error.
_NATIVE_SEGMENTS = "TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION"
# It is not asked where a segment gets shapes that it was not converted for; that is only said.
_NATIVE_ANYWAY = "Running native segment"
# No engine may be built when a model that has them is loaded or asked.
_BUILDING = "Building a new TensorRT engine"


class BuiltRunner(SavedModelRunner):
    """Answers with the engines that were built, or not at all.

    Raises RuntimeError from `infer` where a segment ran without its engine or an engine was built anew.
    """

    def activate_impl(self) -> None:
        os.environ[_NATIVE_SEGMENTS] = "0"
        self._strayed = ""
        self._listener = Listener()
        self._listener.__enter__()
        try:
            super().activate_impl()
        except BaseException:
            self._listener.__exit__(None, None, None)
            raise

    def infer_impl(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        outputs = super().infer_impl(signature, feeds)
        # Requests are timed, so no line is read twice; TensorFlow says a thing a few times only, so it is kept.
        self._strayed = self._strayed or _straying(self._listener.news())
        if self._strayed:
            raise RuntimeError(f"not answered by an engine that was built before: {self._strayed}")
        return outputs

    def deactivate_impl(self) -> None:
        super().deactivate_impl()
        self._listener.__exit__(None, None, None)
        os.environ.pop(_NATIVE_SEGMENTS, None)


def _straying(said: str) -> str:
    """The line in which TF-TRT says that it did without an engine, or built one; empty where it does not."""
    for line in said.splitlines():
        for sign in (_NATIVE_ANYWAY, _BUILDING):
            if sign in line:
                return line[line.find(sign):]
    return ""
