"""Batching parameters: one file that holds for all models, and one for each version that may be batched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.publish.folders import GPU, publish
from tests.publish.signatures import IMAGE, signature, tensor
from trt_pipeline.backends.base import Artifact
from trt_pipeline.publish import batching
from trt_pipeline.publish.batching import Batches
from trt_pipeline.samples.profiles import Extent
from trt_pipeline.serve.batching_parameters import BatchingParameters, read

SENTENCE = signature({"input": tensor("int64", None, None)}, {"outputs": tensor("int64", None, None)}, "translate")
FIXED = signature({"x": tensor("float32", 4, 8)}, {"y": tensor("float32", 4)})
EXAMPLES = signature({"inputs": tensor("string", None)}, {"scores": tensor("float32", None, 3)}, "classify")


def of(*sizes: int, least: int = 1, filled: bool = False, uniform: bool = True) -> Batches:
    return Batches(least=least, most=sizes[-1], sizes=sizes, filled=filled, uniform=uniform)


def parameters(root: Path, file: str = "batching_parameters.txt") -> BatchingParameters:
    return read(root / "serving" / file)


def engine(*batches: tuple[int, int, int]) -> Artifact:
    return Artifact(kind="tensorrt-savedmodel", files={"serving_default": "model"}, profiles={"serving_default": tuple(
        {"image": Extent(min=(low, 8, 8, 1), opt=(usual, 8, 8, 1), max=(high, 8, 8, 1))}
        for low, usual, high in batches)})


@pytest.mark.parametrize(("profiles", "expected"), [
    ([(1, 8, 16)], of(1, 8, 16)),
    ([(4, 8, 16)], of(4, 8, 16, least=4)),
    ([(1, 1, 1), (2, 8, 32)], of(1, 2, 8, 32)),
    ([(1, 2, 4), (16, 16, 32)], of(1, 2, 4)),
    ([(1, 8, 64)], of(1, 8, 32))], ids=["one", "from four on", "joined", "with a gap", "larger than judged"])
def test_sizes_are_those_of_the_engine_s_profiles(profiles: list[tuple[int, int, int]], expected: Batches) -> None:
    assert batching.of_artifact(engine(*profiles), {IMAGE.name: IMAGE}, 32) == expected.model_copy(
        update={"filled": True})


@pytest.mark.parametrize(("largest", "sizes"), [(1, (1,)), (8, (1, 2, 4, 8)), (24, (1, 2, 4, 8, 16, 24))])
def test_without_an_engine_they_are_powers_of_two(largest: int, sizes: tuple[int, ...]) -> None:
    made = Artifact(kind="savedmodel", files={IMAGE.name: "model"})
    assert batching.of_artifact(made, {IMAGE.name: IMAGE}, largest) == of(*sizes)


def test_only_signatures_without_lengths_of_their_own_may_share_batches() -> None:
    made = Artifact(kind="savedmodel", files={})
    found = {s.name: batching.of_artifact(made, {s.name: s}, 8) for s in (IMAGE, EXAMPLES, SENTENCE)}
    assert {name: one.uniform for name, one in found.items() if one} == {
        "serving_default": True, "classify": True, "translate": False}
    both = batching.of_artifact(made, {s.name: s for s in (IMAGE, SENTENCE)}, 8)
    assert both
    assert not both.uniform


def test_a_fixed_batch_is_the_only_one() -> None:
    made = Artifact(kind="savedmodel", files={})
    only = of(4, least=4, filled=True, uniform=False)
    assert batching.of_artifact(made, {FIXED.name: FIXED}, 8) == only
    assert batching.of_artifact(made, {FIXED.name: FIXED, "other": EXAMPLES}, 8) == only


@pytest.mark.parametrize(("several", "expected"), [
    ([of(1, 8, 16), of(1, 2, 4, 8, 16, 32)], of(1, 2, 4, 8, 16)),
    ([of(1, 8), of(1, 3, 6)], of(1, 3, 6)),
    ([of(4, 8, least=4, filled=True), of(1, 2, 4, 8)], of(4, 8, least=4, filled=True)),
    ([of(8, least=8), of(1, 4)], None), ([], None)])
def test_what_models_have_in_common(several: list[Batches], expected: Batches | None) -> None:
    assert batching.common(several) == expected


def test_one_file_holds_for_all_models_and_each_has_its_own(tmp_path: Path) -> None:
    publish(tmp_path, name="small", max_batch_size=4)
    publish(tmp_path, name="large", max_batch_size=16)
    assert parameters(tmp_path).max_batch_size == 4
    assert parameters(tmp_path, "large/1/batching_params.pbtxt").max_batch_size == 16
    assert parameters(tmp_path, "small/1/batching_params.pbtxt").max_batch_size == 4
    assert not parameters(tmp_path).allowed_batch_sizes, "without engines, rows to fill up with are work for nothing"


def test_an_engine_s_profiles_reach_the_files(tmp_path: Path) -> None:
    made = {"profiles": engine((1, 6, 12)).profiles}
    publish(tmp_path, kind="tensorrt-savedmodel", artifact=made, targets=GPU)
    assert parameters(tmp_path).allowed_batch_sizes == (1, 6, 12)


def test_sentences_are_never_padded_with_their_first_word(tmp_path: Path) -> None:
    publish(tmp_path, of=SENTENCE, padding={"input": 0})
    assert not parameters(tmp_path).pad_variable_length_inputs
    assert not (tmp_path / "serving/demo/1" / batching.PER_VERSION).exists()


def test_where_models_have_no_batch_in_common_none_is_made(tmp_path: Path) -> None:
    publish(tmp_path, name="fixed", of=FIXED)
    publish(tmp_path, name="small", max_batch_size=2)
    assert parameters(tmp_path).max_batch_size == 1
