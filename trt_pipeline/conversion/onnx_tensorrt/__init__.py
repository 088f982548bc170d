"""ONNX files as TensorRT takes them, each with the recipe to build it and what ONNX Runtime estimates it by."""
