"""TensorRT engines from ONNX files: what imports `tensorrt` is here, and none of it needs TensorFlow."""
