"""TF-TRT without a GPU: Grappler's TensorRT pass called directly, and what must surround it to be right."""
