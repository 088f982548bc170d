"""Samples that do not fit their signature are refused with the one line that says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trt_pipeline.errors import SamplesError
from trt_pipeline.model.contract import SignatureContract, TensorContract
from trt_pipeline.samples.check import check

IMAGE = TensorContract(dtype="float32", shape=(None, 2, 3))
IDS = TensorContract(dtype="int64", shape=(None, None))
TEXT = TensorContract(dtype="string", shape=(None,))
SCALE = TensorContract(dtype="float32", shape=(None,), default="1.0")


def signature(**inputs: TensorContract) -> SignatureContract:
    return SignatureContract(name="serve", method_name="", inputs=inputs, outputs={})


def images(rows: int = 4) -> np.ndarray:
    return np.zeros((rows, 2, 3), np.float32)


def complaint(arrays: dict[str, Any], **inputs: TensorContract) -> str:
    with pytest.raises(SamplesError) as caught:
        check({name: np.asarray(array) for name, array in arrays.items()}, signature(**inputs), "x.npz")
    return str(caught.value)


def test_what_fits_comes_back_in_the_order_of_the_signature() -> None:
    given = {"ids": np.zeros((4, 9), np.int64), "image": images(), "unused": np.zeros(1)}
    assert list(check(given, signature(image=IMAGE, ids=IDS), "x.npz")) == ["image", "ids"]


@pytest.mark.parametrize(("arrays", "tensor", "text"), [
    ({"y": images(), "b": images()}, IMAGE, "'x' is missing: the samples have b, y"),
    ({}, IMAGE, "'x' is missing: the samples have nothing"),
    ({"x": images().astype(np.float64)}, IMAGE, "'x' has dtype float64, the model takes float32: convert the samples"),
    ({"x": np.zeros((4, 2), np.int32)}, IDS, "'x' has dtype int32, the model takes int64: convert the samples"),
    ({"x": np.zeros(4, np.float32)}, TEXT, "'x' has dtype float32, the model takes string: convert the samples"),
    ({"x": np.array(["a"])}, IDS, "'x' has dtype str32, the model takes int64: convert the samples"),
    ({"x": images()[0]}, IMAGE, "'x' has rank 2, the model takes rank 3 float32 (-1,2,3)"),
    ({"x": np.float32(1)}, IMAGE, "'x' has rank 0, the model takes rank 3 float32 (-1,2,3)"),
    ({"x": images(0)}, IMAGE, "'x' holds zero samples: the leading axis is the batch axis"),
    ({"x": np.zeros((4, 3, 3), np.float32)}, IMAGE, "'x' has 3 on axis 1, the model takes 2 float32 (-1,2,3)"),
    ({"x": np.zeros((4, 2, 1), np.float32)}, IMAGE, "'x' has 1 on axis 2, the model takes 3 float32 (-1,2,3)"),
], ids=lambda value: None if not isinstance(value, str) else value[4:30])
def test_complaints(arrays: dict[str, Any], tensor: TensorContract, text: str) -> None:
    assert complaint(arrays, x=tensor) == f"x.npz: signature serve: input {text}"


def test_a_nan_is_named_by_its_sample() -> None:
    array = images()
    array[2, 1, 1] = np.nan
    assert complaint({"x": array}, x=IMAGE) == (
        "x.npz: signature serve: input 'x' holds NaN in sample 2: clean the samples")


def test_infinity_is_a_value() -> None:
    assert check({"x": images() + np.inf}, signature(x=IMAGE), "x.npz")


def test_inputs_must_have_the_same_number_of_samples() -> None:
    text = complaint({"image": images(4), "ids": np.zeros((3, 2), np.int64)}, image=IMAGE, ids=IDS)
    assert text == "x.npz: signature serve: inputs have different numbers of samples (image 4, ids 3)"


@pytest.mark.parametrize("array", [
    np.array([b"a", b""], object), np.array(["a", "b"]), np.array([b"a", b"b"]), np.array(["a", "b"], object)])
def test_strings_of_every_kind_are_strings(array: np.ndarray) -> None:
    assert check({"x": array}, signature(x=TEXT), "x.npz")["x"] is array


def test_objects_that_are_no_strings_are_refused() -> None:
    assert "'x'" in complaint({"x": np.array([{"a": 1}, None], object)}, x=TEXT)


def test_an_input_with_a_default_may_be_left_out() -> None:
    assert list(check({"image": images()}, signature(image=IMAGE, scale=SCALE), "x.npz")) == ["image"]


def test_a_fixed_batch_size_does_not_limit_the_samples() -> None:
    fixed = TensorContract(dtype="float32", shape=(8, 2, 3))
    assert len(check({"x": images(5)}, signature(x=fixed), "x.npz")["x"]) == 5


def test_an_unknown_rank_takes_any() -> None:
    unknown = TensorContract(dtype="float32", shape=None)
    assert check({"x": images()}, signature(x=unknown), "x.npz")
    assert complaint({"x": np.float32(1)}, x=unknown).endswith(
        "input 'x' holds zero samples: the leading axis is the batch axis")
