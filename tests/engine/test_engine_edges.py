"""int64 at the edges of an engine that has int32 there, timing caches, and a parser's complaints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trt_pipeline.engine import build, narrowing, timing_cache
from trt_pipeline.engine.fit import BuiltOn
from trt_pipeline.engine.log import Message
from trt_pipeline.engine.network import Complaint, node_in_log, told
from trt_pipeline.engine.options import Options
from trt_pipeline.engine.profiles import Range
from trt_pipeline.engine.recipe import Recipe
from trt_pipeline.errors import InputError, MissingError

BUILT = BuiltOn(gpu="NVIDIA A10", compute_capability="8.6", tensorrt="8.5.3.1", cuda="11.8", driver="535.104.05")


def test_int64_is_narrowed_and_widened_again() -> None:
    given = np.array([[-2**31, 0, 2**31 - 1]])
    fed = narrowing.fed("ids", given, "int32")
    assert fed.dtype == np.int32
    back = narrowing.answered(fed, "int64")
    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, given)
    assert narrowing.fed("ids", np.zeros((0, 3), np.int64), "int32").shape == (0, 3)


@pytest.mark.parametrize("value", [2**31, -2**31 - 1])
def test_what_int32_cannot_hold_is_refused_with_the_number(value: int) -> None:
    with pytest.raises(InputError, match=rf"^input 'ids' holds {value}, which the engine cannot: it has int32 there$"):
        narrowing.fed("ids", np.array([0, value]), "int32")


def test_other_types_are_not_cast() -> None:
    with pytest.raises(InputError, match=r"^input 'x' is float64, and the engine takes float32$"):
        narrowing.fed("x", np.zeros(2), "float32")
    with pytest.raises(InputError, match=r"^input 'ids' is float32, and the engine takes int32$"):
        narrowing.fed("ids", np.zeros(2, np.float32), "int32")
    same = np.zeros(2, np.float32)
    assert narrowing.fed("x", same, "float32") is same
    assert narrowing.answered(same, None) is same


class _Serialized:
    """What an IBuilderConfig and its ITimingCache are asked for."""

    def get_timing_cache(self) -> _Serialized:
        return self

    def serialize(self) -> bytes:
        return b"times"


def test_a_timing_cache_is_used_where_it_was_made(tmp_path: Path) -> None:
    file = tmp_path / "timing.cache"
    assert timing_cache.read(None, BUILT) == timing_cache.read(file, BUILT) == (b"", "")
    timing_cache.write(_Serialized(), file, BUILT)
    assert timing_cache.read(file, BUILT) == (b"times", "")
    assert timing_cache.read(file, BUILT.model_copy(update={"driver": "550.1"})) == (b"times", "")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["timing.cache", "timing.cache.json"]


def test_a_timing_cache_is_kept_with_where_it_was_made(tmp_path: Path) -> None:
    made, kept = tmp_path / "timing.cache", tmp_path / "kept" / "timing.cache"
    for _ in range(2):
        timing_cache.write(_Serialized(), made, BUILT)
        timing_cache.keep(made, kept)
    assert timing_cache.read(kept, BUILT) == (b"times", "")
    assert len(list(kept.parent.iterdir())) == 2


@pytest.mark.parametrize(("field", "value", "says"), [
    ("gpu", "Tesla T4", "was made with gpu NVIDIA A10, and this is Tesla T4"),
    ("tensorrt", "8.6.1", "was made with tensorrt 8.5.3.1, and this is 8.6.1"),
    ("compute_capability", "7.5", "was made with compute capability 8.6, and this is 7.5"),
])
def test_a_timing_cache_of_another_machine_is_left_out_with_a_note(field: str, value: str, says: str,
                                                                   tmp_path: Path) -> None:
    file = tmp_path / "timing.cache"
    timing_cache.write(_Serialized(), file, BUILT)
    found, note = timing_cache.read(file, BUILT.model_copy(update={field: value}))
    assert found == b""
    assert says in note


def test_a_timing_cache_of_unknown_origin_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "timing.cache"
    file.write_bytes(b"times")
    assert "does not say where it was made" in timing_cache.read(file, BUILT)[1]
    (tmp_path / "timing.cache.json").write_text(json.dumps([1]))
    assert "does not say where it was made" in timing_cache.read(file, BUILT)[1]


# As 8.4 and 8.5 log it (NVIDIA/TensorRT issue 1997).
RANGE = ['ModelImporter.cpp:748: While parsing node number 205 [Range -> "652"]:',
         "ModelImporter.cpp:749: --- Begin node ---",
         'ModelImporter.cpp:750: input: "1055"\ninput: "648"\ninput: "646"\noutput: "652"\nname: "Range_271"\n'
         'op_type: "Range"\n', "ModelImporter.cpp:751: --- End node ---",
         "ModelImporter.cpp:754: ERROR: ModelImporter.cpp:162 In function parseGraph:\n[6] Invalid Node - Range_271\n"
         "All inputs to range should be initializers."]


def test_the_parser_of_8_names_the_node_in_its_log_alone() -> None:
    texts = ["something before", *RANGE]
    assert node_in_log(205, texts) == ("Range_271", "Range")
    assert node_in_log(54, ["While parsing node number 54 [ReverseSequence]:"]) == ("number 54", "ReverseSequence")
    assert node_in_log(7, texts) == ("number 7", "")
    assert node_in_log(-1, texts) == ("", "")


def test_all_complaints_are_one_line_each_once() -> None:
    unknown = 'Assertion failed: creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
    many = [Complaint("a", "Mish", unknown), Complaint("a", "Mish", unknown),
            Complaint("b", "Range", "no\ninitializers"),
            *(Complaint(f"n{number}", "DCNv2", "No importer registered for op: DCNv2") for number in range(4))]
    assert told(many) == (
        "node 'a' (Mish): TensorRT has no such operation; node 'b' (Range): no initializers; "
        "node 'n0' (DCNv2): TensorRT has no such operation; node 'n1' (DCNv2): TensorRT has no such operation; "
        "node 'n2' (DCNv2): TensorRT has no such operation; and 1 more")
    assert "weights are not beside it" in told([])


def test_the_workspace_is_what_is_asked_and_free() -> None:
    free = 3 * 2**30
    assert build.workspace_limit(Options(), free) == free
    assert build.workspace_limit(Options(workspace_gb=1), free) == 2**30
    assert build.workspace_limit(Options(workspace_gb=16), free) == free


def test_profiles_must_be_the_networks() -> None:
    inputs, known = {"ids": (-1, -1), "scale": (1,)}, Range((1, 1), (1, 1), (1, 1))
    build.check_profiles(inputs, [{"ids": known}])
    build.check_profiles({"scale": (1,)}, [])
    with pytest.raises(InputError, match="'ids' has a free dimension, and no profile says how large it gets"):
        build.check_profiles(inputs, [])
    with pytest.raises(InputError, match="a profile has 'mask', and the inputs with free dimensions are ids"):
        build.check_profiles(inputs, [{"ids": known, "mask": known}])
    with pytest.raises(InputError, match="a profile lacks 'ids'"):
        build.check_profiles(inputs, [{}])


def test_building_where_nothing_can_be_built_says_what_is_missing(tmp_path: Path) -> None:
    recipe = Recipe(precision="fp32", tensorrt="8.5", typed=False)
    with pytest.raises(MissingError, match="has no TensorRT: pip install 'trt-pipeline"):
        build.build(tmp_path, recipe, [], tmp_path / "made", Options())
    assert not (tmp_path / "made").exists()


def test_an_error_is_one_of_tensorrts_two_severities() -> None:
    assert [Message(name, "x").is_error for name in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO")] == [
        True, True, False, False]
