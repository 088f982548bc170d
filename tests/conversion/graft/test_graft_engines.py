"""An engine in a SavedModel: as TRTEngineOp wants it, and answering as the original where there is none to run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2

from tests.conftest import ROOT
from tests.conversion.split import split_nets
from tests.conversion.tftrt.builders import answers, graph_of, numbers, save, variable
from tests.tftrt_shim.build import LIBRARIES
from tests.tftrt_shim.build import build as compiled
from tests.tftrt_shim.compare import differences as shim_differences
from trt_pipeline.conversion import graft
from trt_pipeline.conversion.graft import Grafted
from trt_pipeline.conversion.tftrt import stand_in
from trt_pipeline.conversion.tftrt.segment import engines
from trt_pipeline.engine import build
from trt_pipeline.errors import Unsupported
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import TensorContract, differences
from trt_pipeline.samples import store

DEMO = ROOT / "models/demo/1"
IMAGES = np.load(ROOT / "calibration_data/demo_validation.npz")["image"][:4]
PLACEHOLDER = b"no engine, but as large as one" * 100
SERVE = ("serve",)


def example(image: np.ndarray) -> bytes:
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=image.ravel()))
    return tf.train.Example(features=tf.train.Features(feature={"image": feature})).SerializeToString()


FEEDS: dict[str, dict[str, Any]] = {
    "serving_default": {"image": IMAGES},
    "classify": {"inputs": np.array([example(image) for image in IMAGES], dtype=object)},
    "lookup": {"names": np.array([b"three", b"nothing"], dtype=object)}}


def shim_engine(*ranges: tuple[list[int], list[int]]) -> bytes:
    """What the shim takes for an engine with one profile: smallest and largest shape of each input."""
    engine = attr_value_pb2.AttrValue()
    profile = engine.list.func.add()
    for number, end in enumerate(("min", "max")):
        for pair in ranges:
            profile.attr[end].list.shape.add().CopyFrom(tf.TensorShape(pair[number]).as_proto())
    return b"TRT-shim-engine" + engine.SerializeToString()


def grafted(folder: Path, engine: bytes, precision: str = "fp32", **more: Any) -> Grafted:
    file = folder / f"graft-{len(list(folder.iterdir()))}.plan"
    file.write_bytes(engine)
    return Grafted(file, precision, **more)


class Loops(tf.Module):
    """A loop with weights in it, from bytes, over rows as float64."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = variable(8, 8)

    def call(self, pixels: Any, start: Any, count: Any) -> dict[str, Any]:
        """uint8 [N, 8], float64 [N, 8], int64 [N, 1] -> y float64 [N, 8], sum int64 [N, 8], same int64 [N, 1]"""
        x = tf.cast(pixels, tf.float32) / 255.0 + tf.cast(start, tf.float32)
        rounds = tf.while_loop(lambda i, h: i < 4, lambda i, h: (i + 1, tf.nn.relu(h @ self.kernel) * 2.0), [0, x])[1]
        return {"y": tf.cast(rounds, tf.float64), "sum": tf.cast(rounds * 16, tf.int64) + count, "same": count}


LOOP_FEEDS = {"pixels": np.arange(24, dtype=np.uint8).reshape(3, 8) * 10, "start": numbers(3, 8).astype(np.float64),
              "count": np.array([[1], [2], [3]])}
NARROWED = {"pixels": "uint8", "start": "float64", "count": "int64", "y": "float64", "sum": "int64", "same": "int64"}


@pytest.fixture(scope="module")
def library() -> Path:
    return compiled(Path(sys.executable), LIBRARIES)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with an engine for up to 8 images, and with one that is none; its look-ups have none at all."""
    folder = tmp_path_factory.mktemp("demo")
    graft.graft(DEMO, SERVE, {"serving_default": grafted(folder, shim_engine(([1, 8, 8, 1], [8, 8, 8, 1])), "fp16"),
                              "classify": grafted(folder, PLACEHOLDER, "int8")}, folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original; the grafted model lies beside it."""
    folder, module = tmp_path_factory.mktemp("loops"), Loops()
    specs = [tf.TensorSpec([None, 8], tf.uint8, "pixels"), tf.TensorSpec([None, 8], tf.float64, "start"),
             tf.TensorSpec([None, 1], tf.int64, "count")]
    model = save(folder / "original", module, serving_default=(module.call, specs))
    graft.graft(model, SERVE, {"serving_default": grafted(folder, PLACEHOLDER, narrowed=NARROWED)}, folder / "model")
    return model


def on_shim(original: Path, made: Path, library: Path, feeds: dict[str, dict[str, Any]], folder: Path,
            patch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[list[str]]]:
    """Largest difference of each signature, and what happened to which engine."""
    for name, arrays in feeds.items():
        store.write(arrays, folder / "samples" / quote(name, safe=""))
    patch.setenv("TRT_SHIM_LOG", str(folder / "events"))
    found = shim_differences(original, made, library, folder / "samples")
    return found, [line.split() for line in (folder / "events").read_text().splitlines()]


# --- What runs ---


def test_it_answers_with_its_engine_or_as_the_original(demo: Path, library: Path, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    found, events = on_shim(DEMO, demo, library, FEEDS, tmp_path, monkeypatch)
    assert set(found) == set(FEEDS)
    for name, difference in found.items():
        assert isinstance(difference, float) and difference < 1e-6, (name, difference)
    first, second = (node.name for node in sorted(engines(graph_of(demo)), key=lambda node: node.name))
    assert sorted(events) == [["engine", first], ["native", second]]


def test_other_shapes_and_dtypes_run_natively(loops: Path, library: Path, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    made = loops.with_name("model")
    found, events = on_shim(loops, made, library, {"serving_default": LOOP_FEEDS}, tmp_path, monkeypatch)
    assert found == {"serving_default": pytest.approx(0, abs=1e-6)}
    assert [event for event, _ in events] == ["native"]


@pytest.mark.parametrize("name", FEEDS)
def test_it_has_a_stand_in(name: str, demo: Path) -> None:
    target = demo.with_name("stand-in")
    if not target.exists():
        stand_in.write(demo, target, "surgery")
    expected, got = answers(DEMO, name, **FEEDS[name]), answers(target, name, **FEEDS[name])
    assert sorted(got) == sorted(expected)
    for key, value in expected.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(got[key], value, rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(got[key], value)


def test_a_loop_stands_in_with_its_own_dtypes(loops: Path) -> None:
    stand_in.write(loops.with_name("model"), loops.with_name("stand-in"), "surgery")
    expected, got = answers(loops, **LOOP_FEEDS), answers(loops.with_name("stand-in"), **LOOP_FEEDS)
    assert {key: value.dtype for key, value in got.items()} == {key: value.dtype for key, value in expected.items()}
    np.testing.assert_allclose(got["y"], expected["y"], rtol=1e-5)
    np.testing.assert_array_equal(got["same"], expected["same"])
    assert np.abs(got["sum"] - expected["sum"]).max() <= 1, "a rounding"


def test_strings_in_and_strings_out(tmp_path: Path) -> None:
    """The vocabulary before it, the labels behind it, and integers in between."""
    model = split_nets.words(tmp_path)
    one = grafted(tmp_path, PLACEHOLDER, narrowed={"None_Lookup_SelectV2": "int64", "ArgMax": "int64"})
    graft.graft(model, SERVE, {"label": one}, tmp_path / "grafted")
    node, = engines(graph_of(tmp_path / "grafted"))
    assert list(node.attr["InT"].list.type) == [tf.int32.as_datatype_enum, tf.bool.as_datatype_enum] or list(
        node.attr["InT"].list.type) == [tf.bool.as_datatype_enum, tf.int32.as_datatype_enum]
    assert differences(saved_model.read_contract(model), saved_model.read_contract(tmp_path / "grafted")) == []
    stand_in.write(tmp_path / "grafted", tmp_path / "stand-in", "surgery")
    for name, feeds in {"label": {"text": split_nets.TEXTS}, "plain": {"x": numbers(2, 16)}}.items():
        expected, got = answers(model, name, **feeds), answers(tmp_path / "stand-in", name, **feeds)
        for key, value in expected.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(got[key], value, rtol=1e-6)
            else:
                np.testing.assert_array_equal(got[key], value)


# --- What is written ---


def test_the_contract_is_kept_and_it_loads_without_a_gpu(demo: Path) -> None:
    assert differences(saved_model.read_contract(DEMO), saved_model.read_contract(demo)) == []
    loaded = tf.saved_model.load(str(demo))
    assert list(loaded.signatures["classify"].structured_input_signature[1]) == ["inputs"]
    np.testing.assert_array_equal(loaded.signatures["lookup"](names=tf.constant([b"three"]))["ids"], [3])
    with pytest.raises(tf.errors.InvalidArgumentError, match="No OpKernel was registered to support Op 'TRTEngineOp'"):
        loaded.signatures["serving_default"](image=tf.constant(IMAGES))


def test_the_node_is_as_the_op_wants_it(demo: Path) -> None:
    graph_def = graph_of(demo)
    nodes = sorted(engines(graph_def), key=lambda node: node.name)
    assert len(nodes) == 2
    functions = {function.signature.name: function for function in graph_def.library.function}
    for node, mode, shape, outputs in zip(nodes, (b"FP16", b"INT8"), ([-1, 8, 8, 1], [-1, 64]), (2, 1), strict=True):
        assert node.attr["precision_mode"].s == mode
        assert node.attr["max_batch_size"].i == -1
        assert node.attr["profile_strategy"].s == b"Range"
        assert node.attr["workspace_size_bytes"].i > 0
        assert node.attr["use_calibration"].b is False
        for flag in ("_use_implicit_batch", "_allow_build_at_runtime", "_profile_generation_mode"):
            assert node.attr[flag].HasField("b"), flag
            assert node.attr[flag].b is False
        # A SavedModel leaves out what is as by default: the engine is in the node, and there is one.
        for key in ("static_engine", "max_cached_engines_count"):
            assert key not in node.attr or node.attr[key].b or node.attr[key].i == 1
        assert [[d.size for d in one.dim] for one in node.attr["input_shapes"].list.shape] == [shape]
        assert [[d.size for d in one.dim] for one in node.attr["output_shapes"].list.shape] == [[-1, 10]] * outputs
        assert list(node.attr["InT"].list.type) == [tf.float32.as_datatype_enum]
        assert list(node.attr["OutT"].list.type) == [tf.float32.as_datatype_enum] * outputs
        segment = functions[node.attr["segment_func"].func.name]
        assert [argument.type for argument in segment.signature.input_arg] == list(node.attr["InT"].list.type)
        assert [argument.type for argument in segment.signature.output_arg] == list(node.attr["OutT"].list.type)
        assert sum(one.op == "Conv2D" for one in segment.node_def) == 2
    assert nodes[1].attr["serialized_segment"].s == PLACEHOLDER
    assert nodes[0].attr["serialized_segment"].s.startswith(b"TRT-shim-engine")
    around = [function for function in functions.values() if any(one.op == "TRTEngineOp" for one in function.node_def)]
    assert len(around) == 2
    assert not any(one.op == "Conv2D" for function in around for one in function.node_def), "nothing is done twice"


def test_other_dtypes_are_cast_outside(loops: Path) -> None:
    node, = engines(graph_of(loops.with_name("model")))
    int32, float32 = tf.int32.as_datatype_enum, tf.float32.as_datatype_enum
    contract = saved_model.read_contract(loops).signatures["serving_default"]
    taken = {"pixels": int32, "start": float32, "count": int32, "y": float32, "sum": int32, "same": int32}
    assert list(node.attr["InT"].list.type) == [taken[name] for name in contract.inputs]
    assert list(node.attr["OutT"].list.type) == [taken[name] for name in contract.outputs]


def test_two_models_have_engines_of_different_names(demo: Path, loops: Path) -> None:
    names = [node.name for model in (demo, loops.with_name("model")) for node in engines(graph_of(model))]
    assert len(set(names)) == 3
    assert all(name.startswith("TRTEngineOp_") for name in names)


def test_bindings_are_called_as_the_op_asks_for_them() -> None:
    assert build.GRAFT_INPUT.format(0) == "TensorRTInputPH_0"
    assert build.GRAFT_OUTPUT.format(11) == "TensorRTOutputPH_11"


# --- As an asset ---


def test_an_engine_that_does_not_fit_is_an_asset(library: Path, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    engine = shim_engine(([1, 8, 8, 1], [8, 8, 8, 1]))
    graft.graft(DEMO, SERVE, {"serving_default": grafted(tmp_path, engine)}, tmp_path / "model", largest=1)
    node, = engines(graph_of(tmp_path / "model"))
    assert node.attr["static_engine"].b is False and "static_engine" in node.attr
    assert node.attr["serialized_segment"].s == b""
    file = tmp_path / "model/assets" / f"trt-serialized-engine.{node.name}"
    record, = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    instance = graft.instance_message().FromString(record)
    assert instance.serialized_engine == engine
    assert [[d.size for d in shape.dim] for shape in instance.input_shapes] == [[1, 8, 8, 1]]
    assert differences(saved_model.read_contract(DEMO), saved_model.read_contract(tmp_path / "model")) == []
    feeds = {name: FEEDS[name] for name in ("serving_default", "classify")}
    # The resource is created on the device that it names; the shim has none but the CPU.
    monkeypatch.setattr(graft, "_DEVICE", "CPU")
    graft.graft(DEMO, SERVE, {"serving_default": grafted(tmp_path, engine)}, tmp_path / "on-cpu", largest=1)
    found, events = on_shim(DEMO, tmp_path / "on-cpu", library, feeds, tmp_path, monkeypatch)
    assert found == {name: pytest.approx(0, abs=1e-6) for name in feeds}
    assert events == [["load", node.name], ["engine", node.name]]


def test_a_record_has_a_shape_for_each_input(tmp_path: Path) -> None:
    inputs = [TensorContract(dtype="int32", shape=(None, None)), TensorContract(dtype="float32", shape=(4,)),
              TensorContract(dtype="bool", shape=())]
    graft.write_asset(tmp_path / "engine", PLACEHOLDER, inputs)
    record, = tf.data.TFRecordDataset(str(tmp_path / "engine")).as_numpy_iterator()
    instance = graft.instance_message().FromString(record)
    assert [[d.size for d in shape.dim] for shape in instance.input_shapes] == [[1, 1], [4], []]


# --- What is refused ---


def test_what_the_op_does_not_have_is_refused(loops: Path, tmp_path: Path) -> None:
    without = {name: dtype for name, dtype in NARROWED.items() if name != "count"}
    with pytest.raises(Unsupported, match="TRTEngineOp cannot take or give 'count', which is int64: build the engine "):
        graft.graft(loops, SERVE, {"serving_default": grafted(tmp_path, b"", narrowed=without)}, tmp_path / "a")
    with pytest.raises(Unsupported, match="TRTEngineOp has no bf16"):
        graft.graft(loops, SERVE, {"serving_default": grafted(tmp_path, b"", "bf16", narrowed=NARROWED)},
                    tmp_path / "b")
