"""A small graph for each family of operations, converted at each precision and run on the CPU shim.

The tolerances are those of TF-TRT's own integration tests (tf_trt_integration_test_base.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import op_families
import pytest

from tests.tftrt_shim.compare import Differences
from trt_pipeline.backends.base import Artifact
from trt_pipeline.conversion.tftrt import stand_in

pytestmark = pytest.mark.slow
TOLERANCES = {"fp32": 1e-5, "fp16": 2e-2, "int8": 3e-1}
# Half precision cannot hold what this computes with; the pipeline warns of it.
BEYOND_HALF = {"big_integers_to_float"}
Convert = Callable[[str], tuple[Artifact, Path]]
Errors = Callable[[Path], Differences]


@pytest.mark.parametrize(("precision", "most"), [
    ("fp32", 79), ("fp16", 79),
    ("int8", 12)])  # those with a convolution, or with ranges of their own
def test_every_family_is_converted_or_refused_with_a_reason(precision: str, most: int, convert: Convert) -> None:
    artifact, _ = convert(precision)
    assert list(artifact.description) == list(op_families.FAMILIES)
    refused = {name: facts["unchanged"] for name, facts in artifact.description.items() if "unchanged" in facts}
    assert all(refused.values())
    assert "AssignAdd" in refused["counts_its_calls"]
    assert artifact.coverage.keys() == op_families.FAMILIES.keys() - refused.keys()
    assert len(artifact.coverage) == most, refused


@pytest.mark.parametrize("precision", list(TOLERANCES))
def test_on_the_shim_every_family_answers_as_the_original(precision: str, convert: Convert, errors: Errors) -> None:
    assert not _beyond(errors(convert(precision)[1]), TOLERANCES[precision])


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_what_a_precision_does_stays_within_its_tolerance(precision: str, convert: Convert, errors: Errors,
                                                          tmp_path: Path) -> None:
    artifact, model = convert(precision)
    stand_in.write(model, tmp_path / "estimate", "estimate")
    found = _beyond(errors(tmp_path / "estimate"), TOLERANCES[precision])
    assert found.keys() == BEYOND_HALF & artifact.coverage.keys()


def _beyond(errors: Differences, tolerance: float) -> Differences:
    assert len(errors) == len(op_families.FAMILIES)
    return {name: error for name, error in errors.items() if not isinstance(error, float) or error > tolerance}
