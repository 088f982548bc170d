"""The batches on which parity is judged: corners first, then every sample exactly once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trt_pipeline.model.contract import Shape, SignatureContract, TensorContract
from trt_pipeline.parity.cases import Case, cases
from trt_pipeline.samples import store
from trt_pipeline.samples.store import Samples


def signature(*shapes: Shape) -> SignatureContract:
    tensors = {f"x{i}": TensorContract(dtype="int32", shape=shape) for i, shape in enumerate(shapes)}
    return SignatureContract(name="serve", method_name="", inputs=tensors, outputs={})


def samples(folder: Path, rows: int, padding: dict[str, int] | None = None, **columns: list[list[int]]) -> Samples:
    arrays = {name: np.array(value, np.int32) for name, value in columns.items()}
    store.write(arrays or {"x0": np.zeros((rows, 2), np.int32)}, folder)
    return Samples(folder, padding)


def by_group(found: list[Case]) -> dict[str, tuple[int, ...]]:
    return {case.group: case.rows for case in found if case.group != "samples"}


def test_corners_are_one_an_odd_batch_and_the_largest(tmp_path: Path) -> None:
    found = cases(signature((None, 2)), samples(tmp_path, 10), batch_size=4, max_batch_size=6)
    assert by_group(found) == {"batch 1": (5,), "batch odd": (0, 1, 2), "batch max": (0, 1, 2, 3, 4, 5)}


def test_then_every_sample_comes_once_in_batches(tmp_path: Path) -> None:
    found = cases(signature((None, 2)), samples(tmp_path, 10), batch_size=4, max_batch_size=6)
    assert [case.rows for case in found if case.group == "samples"] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]


def test_a_corner_larger_than_the_samples_begins_them_again(tmp_path: Path) -> None:
    found = cases(signature((None, 2)), samples(tmp_path, 2), batch_size=4, max_batch_size=5)
    assert by_group(found) == {"batch 1": (1,), "batch odd": (0, 1, 0), "batch max": (0, 1, 0, 1, 0)}


def test_samples_with_lengths_add_their_length_corners(tmp_path: Path) -> None:
    column = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]
    found = cases(signature((None, None)), samples(tmp_path, 3, {"x0": 0}, x0=column), 8, 2)
    lengths = {case.group: (case.rows, case.width) for case in found[3:-1]}
    assert lengths == {"shortest": ((1,), None), "longest": ((2,), None), "shortest padded": ((1,), 3),
                       "shortest + longest": ((1, 2), None)}


def test_a_fixed_batch_is_only_ever_fed_that_many(tmp_path: Path) -> None:
    found = cases(signature((4, 2)), samples(tmp_path, 6), batch_size=8, max_batch_size=32)
    assert [case.rows for case in found] == [(0, 1, 2, 3), (4, 5, 0, 1)]
    assert {case.group for case in found} == {"samples"}


def test_an_input_whose_leading_axis_is_unknown_gets_all_samples_at_once(tmp_path: Path) -> None:
    unknown = SignatureContract(name="serve", method_name="", outputs={},
                                inputs={"x0": TensorContract(dtype="int32", shape=None)})
    assert [case.rows for case in cases(unknown, samples(tmp_path, 3), 2, 8)] == [(0, 1, 2)]


def test_a_case_is_named_by_its_group_and_rows() -> None:
    assert Case(signature="serve", group="batch 1", rows=(5,)).name == "batch 1 [5]"
    assert Case(signature="serve", group="samples", rows=(8, 9, 10)).name == "samples [8..10]"


def test_the_name_of_a_case_whose_rows_begin_again_does_not_lie() -> None:
    """32 rows of 5 samples end on row 1, but the batch is not [0..1]."""
    rows = tuple(i % 5 for i in range(32))
    assert Case(signature="serve", group="batch max", rows=rows).name != "batch max [0..1]"


def test_a_signature_without_inputs_does_not_break_the_plan(tmp_path: Path) -> None:
    tmp_path.joinpath("none").mkdir()
    found = cases(signature(), Samples(tmp_path / "none"), batch_size=8, max_batch_size=8)
    assert len(found) <= 1
