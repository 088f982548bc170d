"""What ``backends.tf-trt.options`` may say."""

from __future__ import annotations

from typing import Any, Literal

from trt_pipeline import options
from trt_pipeline.frozen import Frozen

Calibrator = Literal["minmax", "tensorrt"]


class Options(Frozen):
    """Choices that a conversion with TF-TRT has."""

    freeze: Literal["auto", "always", "never"] = "auto"
    """Whether weights become constants of the graph, or stay variables that signatures share; "auto"
    freezes small models. TensorFlow needs some 25 times a frozen graph's size when it loads it. int8
    always freezes, for Q/DQ wants constants."""
    calibrator: Calibrator = "minmax"
    """Who finds int8 ranges: "minmax" this pipeline (the config's ``calibration``); "tensorrt" TensorRT's
    own calibrator, when the candidate is finalized on a GPU."""
    profile_strategy: Literal["range", "optimal", "range+optimal"] = "range"
    """What engines are built for: one profile over all shapes that they were shown, one for each shape, or both."""


def parse(given: dict[str, Any]) -> Options:
    """The options in ``given``.

    Raises:
        ConfigError: one is unknown or has no such value.
    """
    return options.parse(Options, given, "tf-trt")
