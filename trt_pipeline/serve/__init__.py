"""A preview server: TensorFlow Serving's gRPC and REST APIs for what is published, in one Python process."""

from trt_pipeline.serve.choice import batching_of, choose
from trt_pipeline.serve.models_config import ServerConfig
from trt_pipeline.serve.server import Addresses, Options, running, serve

__all__ = ["Addresses", "Options", "ServerConfig", "batching_of", "choose", "running", "serve"]
