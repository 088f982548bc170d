"""An engine that does not fit a machine: both sides are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from trt_pipeline.engine import fit
from trt_pipeline.engine.availability import TensorRT
from trt_pipeline.engine.fit import BuiltOn
from trt_pipeline.errors import InputError

BUILT = BuiltOn(gpu="NVIDIA A10", compute_capability="8.6", tensorrt="8.5.3.1", cuda="11.8", driver="535.104.05")
HERE = TensorRT(version="8.5.3.1", gpu="NVIDIA A10", compute_capability="8.6", driver="535.104.05", cuda="12.2")
AGAIN = "build it again here: trt-pipeline finalize CANDIDATE"


def _there(**changes: object) -> BuiltOn:
    return BUILT.model_copy(update=changes)


def _here(**changes: object) -> TensorRT:
    return HERE.model_copy(update=changes)


@pytest.mark.parametrize(("built_on", "here"), [
    (BUILT, HERE),
    (BUILT, _here(version="8.5.3.9")),  # the fourth number is the packaging's
    (_there(hardware_compatible=True), _here(gpu="NVIDIA H100", compute_capability="9.0")),
    (_there(version_compatible=True, tensorrt="8.6.0"), _here(version="8.6.1")),
    (_there(version_compatible=True, tensorrt="8.6.0"), _here(version="10.3.0")),
    (_there(version_compatible=True, tensorrt="10.13.0", cuda="12.9"), _here(version="11.4.0")),
])
def test_what_fits_is_let_pass(built_on: BuiltOn, here: TensorRT) -> None:
    assert fit.differences(built_on, here) == ""


@pytest.mark.parametrize(("built_on", "here", "says"), [
    (BUILT, _here(version="10.13.0.35"), "it was built with TensorRT 8.5.3.1, and this is 10.13.0.35"),
    (BUILT, _here(gpu="NVIDIA H100", compute_capability="9.0"),
     "it was built for NVIDIA A10 (compute capability 8.6), and this is NVIDIA H100 (9.0)"),
    (BUILT, _here(gpu="", compute_capability=""), "it was built for NVIDIA A10, and CUDA sees no NVIDIA GPU here"),
    (_there(cuda="12.9"), _here(cuda="11.4", driver="470.82.01"),
     "it needs CUDA 12.9, and the driver 470.82.01 ends at 11.4"),
    (_there(hardware_compatible=True), _here(gpu="Tesla T4", compute_capability="7.5"),
     "it was built for NVIDIA A10 (compute capability 8.6), and this is Tesla T4 (7.5)"),
    (_there(version_compatible=True, tensorrt="8.6.1"), _here(version="8.6.0"),
     "it was built with TensorRT 8.6.1, and this is 8.6.0"),
    (_there(version_compatible=True, tensorrt="8.6.1"), _here(version="11.4.0"),
     "it was built with TensorRT 8.6.1, and this is 11.4.0"),
    (_there(tensorrt="11.4.0"), _here(version="8.5.3.1", gpu="Tesla T4", compute_capability="7.5"),
     "it was built with TensorRT 11.4.0, and this is 8.5.3.1; it was built for NVIDIA A10 (compute capability 8.6), "
     "and this is Tesla T4 (7.5)"),
])
def test_what_does_not_fit_is_told_with_both_sides(built_on: BuiltOn, here: TensorRT, says: str) -> None:
    assert fit.differences(built_on, here) == f"the engine does not fit this machine: {says}; {AGAIN}"


def test_a_machine_without_tensorrt_is_told_what_it_lacks() -> None:
    here = TensorRT(why_not_build="/usr/bin/python3 has no TensorRT: pip install it")
    assert fit.differences(BUILT, here) == (
        "the engine was built with TensorRT 8.5.3.1, and /usr/bin/python3 has no TensorRT: pip install it")


def test_another_gpu_of_the_same_architecture_is_remarked_only() -> None:
    other = _here(gpu="NVIDIA GeForce RTX 3090")
    assert fit.differences(BUILT, other) == ""
    assert fit.remark(BUILT, other) == ("the engine's kernels were chosen on NVIDIA A10, and this is NVIDIA GeForce "
                                        f"RTX 3090: {AGAIN} for its full speed")
    assert fit.remark(BUILT, HERE) == ""


def test_it_is_told_in_words() -> None:
    assert _there(hardware_compatible=True).facts == {
        "gpu": "NVIDIA A10", "compute capability": "8.6", "tensorrt": "8.5.3.1", "cuda": "11.8", "driver": "535.104.05",
        "hardware compatible": "yes"}


def test_it_lies_beside_the_engine(tmp_path: Path) -> None:
    assert fit.read(tmp_path) is None
    fit.write(BUILT, tmp_path)
    assert fit.read(tmp_path) == BUILT
    (tmp_path / "built_on.json").write_text('{"gpu": "NVIDIA A10"}')
    with pytest.raises(InputError, match="was written by another version"):
        fit.read(tmp_path)
