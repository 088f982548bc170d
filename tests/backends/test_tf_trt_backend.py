"""What the backend decides before it touches a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trt_pipeline.backends.base import Artifact, ConversionRequest
from trt_pipeline.backends.tf_trt import TfTrt, _keeps_variables
from trt_pipeline.conversion.tftrt.options import Options
from trt_pipeline.errors import ConfigError, Unsupported
from trt_pipeline.model.contract import Contract

MEGABYTE, GIGABYTE = 2**20, 2**30


def _decide(size: int, signatures: int = 1, precision: str = "fp16", **options: Any) -> bool:
    contract = Contract(tags=("serve",), signatures={}, assets={}, extra_assets={}, tables=0, variable_bytes=size,
                        tensorflow_version="")
    request = ConversionRequest(model=Path("model"), tags=("serve",), precision=precision,
                                signatures=tuple(map(str, range(signatures))))
    return _keeps_variables(Options.model_validate(options), contract, request)


def test_small_models_are_frozen_and_large_ones_share_their_variables() -> None:
    assert not _decide(100 * MEGABYTE)
    assert _decide(300 * MEGABYTE)
    assert _decide(100 * MEGABYTE, signatures=3), "each signature would have weights of its own"


def test_options_decide_otherwise() -> None:
    assert _decide(1, freeze="never")
    assert not _decide(GIGABYTE, freeze="always")


def test_what_a_graph_cannot_hold_is_refused_before_any_work() -> None:
    with pytest.raises(Unsupported, match=r"2\.5 GiB of variables do not fit .*, which ends at 2 GiB: set freeze to"):
        _decide(5 * GIGABYTE // 2, freeze="always")
    with pytest.raises(Unsupported, match=r"3 signatures with 1.0 GiB .*: int8 needs one"):
        _decide(GIGABYTE, signatures=3, precision="int8")
    assert _decide(50 * GIGABYTE), "shared, they may be of any size"


def test_int8_is_always_frozen() -> None:
    """Q/DQ wants constants, and TensorRT's calibrator takes no variables."""
    assert not _decide(GIGABYTE, precision="int8", freeze="never")


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no option 'calibratr'.*did you mean 'calibrator'"):
        TfTrt().check_options({"calibratr": "tensorrt"})


def test_nothing_it_makes_runs_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    why = TfTrt().why_pending(Artifact(kind="tensorrt-savedmodel", files={}))
    assert "no NVIDIA GPU" in why
