"""Runs in the tracking server that a team keeps its experiments in: MLflow, with the extra ``[mlflow]``.

    result = tp.optimize("enko")
    tracking.log(result, uri="http://mlflow:5000")
"""

from trt_pipeline.tracking.runs import Logged, check, log

__all__ = ["Logged", "check", "log"]
