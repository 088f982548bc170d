"""A preview server: TensorFlow Serving's REST API for what is published, in one Python process."""

from trt_pipeline.serve.models import find_models
from trt_pipeline.serve.server import serve

__all__ = ["find_models", "serve"]
