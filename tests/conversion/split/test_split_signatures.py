"""Where a signature is cut, what the parts are called, and that they answer as the whole does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import split_nets
import tensorflow as tf

from tests.conftest import ROOT
from tests.conversion.tftrt.builders import answers, numbers, signature
from trt_pipeline.backends import split_runner
from trt_pipeline.backends.split_runner import SplitRunner
from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion import freeze
from trt_pipeline.conversion.canonical import canonical
from trt_pipeline.conversion.onnx_tensorrt.convert import convert
from trt_pipeline.conversion.split import host, wording
from trt_pipeline.conversion.split.split import Split, split
from trt_pipeline.engine import recipe
from trt_pipeline.errors import InputError, Unsupported
from trt_pipeline.model import saved_model

DEMO = ROOT / "models/demo/1"
IMAGES = np.load(ROOT / "calibration_data/demo_validation.npz")["image"][:4]
Parts = tuple[Split, Any]


def example(image: np.ndarray) -> bytes:
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=image.ravel()))
    return tf.train.Example(features=tf.train.Features(feature={"image": feature})).SerializeToString()


EXAMPLES = np.array([example(image) for image in IMAGES], dtype=object)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return split_nets.words(tmp_path_factory.mktemp("words"))


def cut(model: Path, name: str = "serving_default", **options: Any) -> Parts:
    """A signature in parts, and what was loaded."""
    function = signature(model, name)
    contract = saved_model.read_contract(model).signatures[name]
    return split(canonical(function), contract, **options), function.kept_alive


def operations(graph: Any) -> set[str]:
    return {node.op for node in graph.graph_def.node} if graph is not None else set()


def runner(model: Path, folder: Path, *names: str, version: tuple[int, ...] = (10, 0)) -> SplitRunner:
    """What runs ``model`` from files as the backend writes them, below ``folder``, for a version of TensorRT."""
    for name in names:
        parts, loaded = cut(model, name)
        convert(parts.core, parts.contract, folder / name, precision="fp32", version=version)
        written = onnx.load(folder / name / recipe.MODEL).graph
        assert [value.name for value in written.input] == list(parts.core.inputs), "engines number them so"
        assert [value.name for value in written.output] == list(parts.core.outputs)
        host.write_host(loaded, parts, folder / name / host.HOST)
    return SplitRunner(saved_model.read_contract(model), {name: folder / name for name in names})


def same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert sorted(got) == sorted(expected)
    for key, value in expected.items():
        assert got[key].dtype == value.dtype, key
        if value.dtype.kind == "f":
            np.testing.assert_allclose(got[key], value, rtol=2e-6, atol=2e-6)
        else:
            np.testing.assert_array_equal(got[key], value)


# --- Where it is cut ---


def test_strings_through_a_vocabulary(words: Path) -> None:
    parts, _ = cut(words, "label")
    assert not parts.whole
    assert {"StringSplitV2", "LookupTableFindV2", "StringToHashBucketFast"} <= operations(parts.before)
    assert {"GatherV2", "MatMul", "Softmax"} <= operations(parts.core)
    assert not operations(parts.core) & {"LookupTableFindV2", "SelectV2"}, "the vocabulary's arithmetic stays with it"
    assert operations(parts.after) >= {"LookupTableFindV2"}
    assert not operations(parts.after) & {"MatMul", "ArgMax"}
    dtypes = [tensor.dtype for tensor in parts.contract.inputs.values()]
    assert sorted(dtypes) == ["bool", "int64"], "ids, and which words there are"
    assert all(tensor.shape == (None, None) for tensor in parts.contract.inputs.values())
    outputs = {name: (tensor.dtype, tensor.shape) for name, tensor in parts.contract.outputs.items()}
    assert outputs.pop("scores") == ("float32", (None, 3)), "the signature's own have its names"
    assert list(outputs.values()) == [("int64", (None,))], "ArgMax is done there, and not on the host"
    assert parts.before and parts.after
    assert "length" in parts.before.outputs, "what needs no weights is where it comes from"
    assert list(parts.after.outputs) == ["label"]


def test_nodes_of_the_core_keep_their_names(words: Path) -> None:
    whole = canonical(signature(words, "label"))
    parts, _ = cut(words, "label")
    known = {node.name: node for node in whole.graph_def.node}
    for node in parts.core.graph_def.node:
        assert node.op in ("Placeholder", known[node.name].op)
        if node.op != "Placeholder":
            assert list(node.input) == [source for source in known[node.name].input if not source.startswith("^")]


def test_a_shape_of_strings_is_taken_of_their_numbers(words: Path) -> None:
    parts, _ = cut(words, "tokens")
    assert [(t.dtype, t.shape) for t in parts.contract.inputs.values()] == [("int64", (None, 3))], "and no shape"
    assert parts.after is None
    assert sorted(parts.contract.outputs) == ["id", "scores"]


def test_an_example_is_parsed_on_the_host() -> None:
    parts, loaded = cut(DEMO, "classify")
    assert operations(parts.before) == {"Const", "Placeholder", "ParseExampleV2"}
    assert parts.contract.inputs["image"].shape == (None, 64)
    assert list(parts.contract.outputs) == ["scores"], "the labels are repeated by a shape that comes along"
    assert wording.on_the_host(parts)[0].startswith(
        "before: ParseExampleV2 (StatefulPartitionedCall/ParseExample/ParseExampleV2): tf2onnx has no ONNX form")
    steps = wording.for_clients(parts, loaded)
    assert steps[0] == "`inputs` -> ParseExampleV2 -> core input `image` float32 [-1, 64]"
    assert steps[1].startswith("core output `scores` float32 [-1, 10] -> LookupTableFindV2 (assets/labels.txt), ")
    assert steps[1].endswith("-> `classes`")


def test_what_clients_have_to_do_names_the_vocabulary(words: Path) -> None:
    parts, loaded = cut(words, "tokens")
    name = next(iter(parts.contract.inputs))
    told, = wording.for_clients(parts, loaded)
    assert told.startswith("`tokens` -> ")
    assert "LookupTableFindV2 (assets/vocab.txt)" in told
    assert told.endswith(f"core input `{name}` int64 [-1, 3]")
    parts, loaded = cut(words, "label")
    told_of = {line.rpartition(" -> ")[2]: line for line in wording.for_clients(parts, loaded)}
    assert told_of["`length`"].startswith("`text` -> StringSplitV2, "), "an answer that needs no core"
    assert "(assets/labels.txt) -> " in told_of["`label`"]
    assert len(told_of) == 4


def test_what_needs_no_host_is_whole() -> None:
    graph = canonical(signature(DEMO))
    contract = saved_model.read_contract(DEMO).signatures["serving_default"]
    parts = split(graph, contract)
    assert parts.whole
    assert parts.core.graph_def is graph.graph_def
    assert list(parts.core.outputs) == list(contract.outputs)
    assert parts.contract is contract


def test_what_is_to_stay_on_the_host_does() -> None:
    parts, _ = cut(DEMO, kept=("Softmax",))
    assert list(parts.contract.outputs) == ["logits"]
    assert "Softmax" in operations(parts.after)


def test_of_two_pieces_the_larger_is_the_core(tmp_path: Path) -> None:
    model = split_nets.one(tmp_path, split_nets.interrupted, tf.TensorSpec([None, 4], name="x"))
    parts, _ = cut(model)
    assert {"MatMul", "AsString", "StringToNumber"} <= operations(parts.before)
    assert sum(node.op == "MatMul" for node in parts.core.graph_def.node) == 2
    assert list(parts.contract.outputs) == ["y"]
    cut_off, = (line for line in wording.on_the_host(parts) if "MatMul" in line)
    assert cut_off.endswith("has weights, but work for the host separates it from the core")
    x = numbers(3, 4, seed=8)
    with runner(model, tmp_path, "serving_default") as run:
        same(run.infer("serving_default", {"x": x}), answers(model, x=x))


@pytest.mark.parametrize("weighted", [True, False])
def test_a_loop_that_reads_text(weighted: bool, tmp_path: Path) -> None:
    model = split_nets.one(tmp_path, split_nets.looped(weighted), tf.TensorSpec([None], tf.string, name="text"))
    if weighted:
        with pytest.raises(Unsupported, match=r"^signature serving_default: String\w+ \(\S+, .*\) is inside the loop "
                                              r"\S*while\S*, which has weights: "):
            cut(model)
        return
    parts, _ = cut(model)
    assert "MatMul" in operations(parts.core)
    assert operations(parts.before) & {"While", "StatelessWhile"}
    assert [tensor.dtype for tensor in parts.contract.inputs.values()] == ["float32"], "what it gathered, not the list"
    texts = np.array([b"1 2 3 4", b"-1 0.5 2 8"], dtype=object)
    with runner(model, tmp_path, "serving_default") as run:
        same(run.infer("serving_default", {"text": texts}), answers(model, text=texts))


def test_a_branch_that_is_no_function_is_refused(tmp_path: Path) -> None:
    def call(x: Any, which: Any) -> dict[str, Any]:
        branches = [lambda: x @ numbers(4, 20), lambda: x @ numbers(4, 20, seed=1) + 1.0]
        return {"y": tf.switch_case(which[0], branches)}

    model = split_nets.one(tmp_path, call, tf.TensorSpec([None, 4], name="x"), tf.TensorSpec([1], tf.int32, "which"))
    with pytest.raises(Unsupported, match=r"it has a branch that cannot be cut \((_SwitchN|Merge), .*: write the "):
        cut(model)


def test_one_name_for_an_input_and_an_output(tmp_path: Path) -> None:
    model = split_nets.one(tmp_path, lambda x: {"x": x @ numbers(4, 20)}, tf.TensorSpec([None, 4], name="x"))
    with pytest.raises(Unsupported, match=r"^signature serving_default has an input and an output called x: "):
        cut(model)


def test_names_that_no_keyword_can_have(tmp_path: Path) -> None:
    def call(text: Any) -> dict[str, Any]:
        y = tf.strings.to_number(text) @ numbers(4, 20)
        return {"_ the end: y": y, "class": tf.strings.as_string(y, precision=3)}

    model = split_nets.one(tmp_path, call, tf.TensorSpec([None, 4], tf.string, name="a.text"))
    texts = np.array([[b"1", b"2", b"3", b"0.5"]], dtype=object)
    with runner(model, tmp_path, "serving_default") as run:
        same(run.infer("serving_default", {"a.text": texts}), answers(model, **{"a.text": texts}))
    assert host.argument("plain") == "plain"
    assert len({host.argument(name) for name in ("a.b", "a_b", "a b", "class")}) == 4


def test_nothing_with_a_weight() -> None:
    with pytest.raises(Unsupported, match=r"^signature lookup: no part of it is for TensorRT: LookupTableFindV2 .*"
                                          r"look-up tables stay in TensorFlow, and nothing else has a weight$"):
        cut(DEMO, "lookup")


def test_an_unknown_rank_is_refused_where_an_engine_would_begin(tmp_path: Path) -> None:
    def call(text: Any) -> dict[str, Any]:
        return {"y": tf.reshape(tf.io.parse_tensor(text[0], tf.float32), [-1, 8]) @ numbers(8, 8)}

    model = split_nets.one(tmp_path, call, tf.TensorSpec([None], tf.string, name="text"))
    with pytest.raises(Unsupported, match=r"ParseTensor \(.*\) has a result of unknown rank, .* tf\.ensure_shape$"):
        cut(model)


def test_a_check_of_what_comes_in_is_still_made(tmp_path: Path) -> None:
    def call(text: Any) -> dict[str, Any]:
        read = tf.ensure_shape(tf.strings.to_number(text), [None, 4])
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(tf.strings.length(text) < 5), ["too long"])]):
            return {"y": tf.identity(read) @ numbers(4, 20)}

    model = split_nets.one(tmp_path, call, tf.TensorSpec([None, 4], tf.string, name="text"))
    with runner(model, tmp_path, "serving_default") as run:
        fine = np.array([[b"1", b"2.5", b"-3", b"4"]], dtype=object)
        same(run.infer("serving_default", {"text": fine}), answers(model, text=fine))
        with pytest.raises(tf.errors.InvalidArgumentError, match="too long"):
            run.infer("serving_default", {"text": np.array([[b"1", b"2", b"3", b"123456"]], dtype=object)})


def test_ranges_are_found_under_the_core_s_names() -> None:
    parts, _ = cut(DEMO, "classify")
    known = SignatureRanges(ranges={"a:3": (0, 1)}, extents={"a:3": (-1, 2)})
    moved = Split(parts.before, parts.core, parts.contract, parts.after, renamed={"b:0": "a:3"})
    assert moved.ranges(known).ranges == {"a:3": (0, 1), "b:0": (0, 1)}
    assert moved.ranges(known).extents == {"a:3": (-1, 2), "b:0": (-1, 2)}
    assert parts.ranges(known) == known


# --- That it answers ---


@pytest.mark.parametrize("version", [(8, 5), (10, 0)])
def test_the_parts_answer_as_the_whole(words: Path, tmp_path: Path, version: tuple[int, ...]) -> None:
    with runner(words, tmp_path, "label", "plain", version=version) as run:
        for texts in (split_nets.TEXTS, split_nets.TEXTS[:1]):
            same(run.infer("label", {"text": texts}), answers(words, "label", text=texts))
        x = numbers(2, 16)
        same(run.infer("plain", {"x": x}), answers(words, "plain", x=x))
    narrowed = recipe.read(tmp_path / "label").narrowed
    assert sorted(narrowed.values()) == (["int64", "int64"] if version < (10,) else []), "ids in, the label's out"
    requests = [("label", {"text": split_nets.TEXTS}), ("plain", {"x": numbers(2, 16)})]
    (name, fed), = split_runner.before(saved_model.read_contract(words), {"label": tmp_path / "label"}, requests)
    assert name == "label"
    assert {key: value.dtype.name for key, value in fed.items()} == {
        key: tensor.dtype for key, tensor in cut(words, "label")[0].contract.inputs.items()}
    assert sorted(file.name for file in (tmp_path / "label/host/assets").iterdir()) == ["labels.txt", "vocab.txt"]
    assert not (tmp_path / "plain/host").exists()


def test_the_demo_s_examples_answer_as_the_whole(tmp_path: Path) -> None:
    with runner(DEMO, tmp_path, "classify", "serving_default") as run:
        same(run.infer("classify", {"inputs": EXAMPLES}), answers(DEMO, "classify", inputs=EXAMPLES))
        same(run.infer("serving_default", {"image": IMAGES}), answers(DEMO, image=IMAGES))
        with pytest.raises(InputError, match="has no signature lookup"):
            run.infer("lookup", {"names": EXAMPLES})
    assert (tmp_path / "classify/host/assets/labels.txt").is_file()
    assert not (tmp_path / "serving_default/host").exists()


def test_weights_beside_the_graph_go_with_the_core(words: Path, tmp_path: Path) -> None:
    """As those of a model over 2 GiB."""
    function = signature(words, "tokens")
    contract = saved_model.read_contract(words)
    parts = split(freeze.beside(function), contract.signatures["tokens"])
    assert len(parts.core.weights) == 3
    assert parts.before and not parts.before.weights
    assert len(parts.contract.inputs) == 1
    convert(parts.core, parts.contract, tmp_path / "tokens", precision="fp32", version=(8, 5))
    host.write_host(function.kept_alive, parts, tmp_path / "tokens" / host.HOST)
    tokens = np.array([[b"cat", b"on", b"zebra"]], dtype=object)
    with SplitRunner(contract, {"tokens": tmp_path / "tokens"}) as run:
        same(run.infer("tokens", {"tokens": tokens}), answers(words, "tokens", tokens=tokens))


# --- The cheapest cut ---


def ids_and_mask(ids: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    def call(text: Any) -> dict[str, Any]:
        found = ids(text)
        mask = tf.cast(found > 3, tf.float32)[..., tf.newaxis]
        return {"y": tf.reduce_sum(tf.gather(numbers(64, 8), found) * mask, 1) @ numbers(8, 20)}

    return call


@pytest.mark.parametrize("ids", [
    lambda text: tf.strings.to_hash_bucket_fast(text, 60),
    lambda text: tf.strings.to_hash_bucket_fast(text, 30) + tf.strings.to_hash_bucket_strong(text, 30, [1, 2])])
def test_one_tensor_crosses_where_one_can(ids: Callable[[Any], Any], tmp_path: Path) -> None:
    """Before what makes two of one, behind what makes one of two."""
    model = split_nets.one(tmp_path, ids_and_mask(ids), tf.TensorSpec([None, 5], tf.string, name="text"))
    parts, _ = cut(model)
    assert [(t.dtype, t.shape) for t in parts.contract.inputs.values()] == [("int64", (None, 5))]


def test_what_is_made_of_a_tensor_that_crosses_anyway_is_made_in_the_core(tmp_path: Path) -> None:
    """A mask and a shape, behind the last weights."""
    def call(text: Any) -> dict[str, Any]:
        ids = tf.strings.to_hash_bucket_fast(text, 60)
        y = tf.gather(numbers(64, 8), ids) @ numbers(8, 20)
        flat = tf.reshape(y * tf.cast(ids > 3, tf.float32)[..., tf.newaxis], [-1, 20])
        return {"y": tf.reshape(flat, [tf.shape(ids)[0], -1])}

    model = split_nets.one(tmp_path, call, tf.TensorSpec([None, 5], tf.string, name="text"))
    parts, _ = cut(model)
    assert [(t.dtype, t.shape) for t in parts.contract.inputs.values()] == [("int64", (None, 5))]
    assert parts.after is None
    assert "Shape" in operations(parts.core)
