"""A run with a candidate of every kind that a gate tells apart."""

from __future__ import annotations

import factory

from trt_pipeline.config.schema import Target
from trt_pipeline.parity.judge import Estimate

TARGETS = (Target(kind="tf-serving", version="2.14"), Target(kind="triton", version="24.10"))
FAST = factory.judged("tensorflow/fp32", 1.5, 3e-7)
WRONG = factory.judged("tensorflow/int8", 2.0, 0.3, "serve.scores: 97 of 640 elements outside close: scaled 0.05")
PENDING = factory.candidate("tf-trt/fp16", "pending-gpu", "estimated on CPU: passes its gate; no GPU",
                            verdict=factory.verdict(1e-3).model_copy(update={
                                "estimate": Estimate(pending="no GPU", surgery=None)}))
FAILED = factory.candidate("onnxruntime/int8", "failed", "convert: worker killed")
RUN = factory.run((factory.ORIGINAL, FAST, WRONG, PENDING, FAILED), ())
