"""Lower the precision of an exported ONNX model by what calibration measured, and prove what came of it.

`bodies` walks a model's graphs, `names` finds TensorFlow's names again, `quantize` and `half` write the
lower precision, `proof` looks at what ONNX Runtime really runs.
"""
