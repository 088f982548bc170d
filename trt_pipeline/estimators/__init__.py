"""Estimators: export one with the signatures that serving and on-the-fly requests need, and ask it.

    from trt_pipeline import estimators
    folder = estimators.export(estimator, "models/iris", features=columns)
    with estimators.Predictor(folder) as predictor:
        predictor({"SepalLength": [5.1], "SepalWidth": [3.3], "PetalLength": [1.7], "PetalWidth": [0.5]})

TensorFlow has Estimators up to 2.15. What was exported is a SavedModel, which `Predictor`, the pipeline and
every server run with later versions too. Importing this package imports no TensorFlow.
"""

from trt_pipeline.estimators.exporting import export
from trt_pipeline.estimators.predictor import Predictor

__all__ = ["Predictor", "export"]
