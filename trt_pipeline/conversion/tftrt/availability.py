"""What of TF-TRT this interpreter and machine have. Nothing here calls what aborts the process."""

from __future__ import annotations

from trt_pipeline.frozen import Frozen

_OTHER_INTERPRETER = ("use the 'tensorflow' wheel 2.14 to 2.17, or name an interpreter that has it under "
                      "backends.tf-trt.python")


class Availability(Frozen):
    """What can be done here; versions are empty where there is none."""

    tensorflow: str
    compiled_in: bool
    """Whether this TensorFlow has the TensorRT pass and ops: enough to convert."""
    linked: str = ""
    """TensorRT version that TensorFlow was built against."""
    loaded: str = ""
    """TensorRT version whose library TensorFlow finds: needed to build and run engines."""
    gpus: int = 0
    gpu_name: str = ""

    @property
    def why_not_convert(self) -> str:
        """Why nothing can be converted here; empty where it can."""
        if self.compiled_in:
            return ""
        return f"TensorFlow {self.tensorflow} has no TF-TRT compiled in: {_OTHER_INTERPRETER}"

    @property
    def why_not_finalize(self) -> str:
        """Why no engine can be built here; empty where it can."""
        if not self.compiled_in:
            return self.why_not_convert
        if not self.gpus:
            return "TensorFlow sees no NVIDIA GPU here: finalize on the machine that will serve the model"
        if not self.loaded:
            return f"TensorFlow {self.tensorflow} does not find TensorRT's library (it wants {self.linked}): " \
                   "pip install 'trt-pipeline[tensorrt]'"
        if not self._fits:
            return f"TensorFlow {self.tensorflow} finds TensorRT {self.loaded} and wants {self.linked} or newer " \
                   "of the same major version: pip install 'trt-pipeline[tensorrt]'"
        return ""

    @property
    def _fits(self) -> bool:
        loaded, linked = (tuple(int(part) for part in version.partition("-")[0].split("."))
                          for version in (self.loaded, self.linked))
        return loaded[0] == linked[0] and loaded >= linked

    def built_with(self) -> dict[str, str]:
        """What an engine that is built here is tied to."""
        return {"gpu": self.gpu_name or "none", "tensorrt": self.loaded or "none", "tensorflow": self.tensorflow}


def examine() -> Availability:
    """Ask this interpreter's TensorFlow.

    `get_loaded_tensorrt_version` aborts the process where the library is missing, so it is called
    only after `is_tensorrt_enabled` has tried to open it.
    """
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    build = tf.sysconfig.get_build_info()
    compiled_in = bool(build.get("is_tensorrt_build")) and op_def_registry.get("TRTEngineOp") is not None
    if not compiled_in:
        return Availability(tensorflow=tf.__version__, compiled_in=False)
    from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils

    gpus = tf.config.list_physical_devices("GPU")
    enabled = _pywrap_py_utils.is_tensorrt_enabled()
    return Availability(
        tensorflow=tf.__version__, compiled_in=True, gpus=len(gpus),
        gpu_name=str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "")) if gpus else "",
        linked=_version(_pywrap_py_utils.get_linked_tensorrt_version()),
        loaded=_version(_pywrap_py_utils.get_loaded_tensorrt_version()) if enabled else "")


def _version(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
