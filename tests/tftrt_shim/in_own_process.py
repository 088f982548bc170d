"""What the shim's kernels do; run by `test_shim.py` in a process of its own, because op libraries stay loaded."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.compiler.tf2tensorrt.ops import gen_trt_ops
from tensorflow.core.framework import attr_value_pb2
from tensorflow.python.compiler.tensorrt import trt_convert

from tests.tftrt_shim.build import LIBRARIES, build

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)
ROWS = tf.TensorSpec([None, 4])
Events = Callable[[], list[str]]


@pytest.fixture(autouse=True, scope="session")
def _shim() -> None:
    tf.load_op_library(str(build(Path(sys.executable), LIBRARIES)))


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Events:
    """The events since it was last asked, without the engine's name."""
    log = tmp_path / "events"
    monkeypatch.setenv("TRT_SHIM_LOG", str(log))

    def read() -> list[str]:
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line.split()[0] for line in lines]

    return read


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """An engine's name for this test alone: engines live as long as the process."""
    return "TRTEngineOp_" + re.sub(r"\W+", "_", request.node.name)


def engine_op(name: str, inputs: list[tf.Tensor], segment: Any, **changes: Any) -> list[tf.Tensor]:
    """One TRTEngineOp of dynamic shapes, as the TF-TRT pass makes them; ``changes`` are attributes."""
    flags = {"_use_implicit_batch": False}
    flags |= {attribute: changes.pop(attribute) for attribute in list(changes) if attribute.startswith("_")}
    attributes = {"serialized_segment": b"", "OutT": [out.dtype for out in segment.outputs],
                  "workspace_size_bytes": 1 << 20, "precision_mode": "FP32", "segment_func": segment,
                  "input_shapes": [tensor.shape for tensor in segment.inputs], "use_calibration": False,
                  "output_shapes": [out.shape for out in segment.outputs], "static_engine": False,
                  "profile_strategy": "Range"}
    outputs = gen_trt_ops.trt_engine_op(in_tensor=inputs, name=name, **(attributes | changes))
    for attribute, value in flags.items():
        outputs[0].op._set_attr(attribute, attr_value_pb2.AttrValue(b=value))
    return outputs


@tf.function(input_signature=[ROWS])
def product(rows: tf.Tensor) -> tf.Tensor:
    return rows @ WEIGHTS


def product_engine(name: str, **changes: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of one engine that computes `product`."""
    segment = product.get_concrete_function()
    return tf.function(lambda rows: engine_op(name, [rows], segment, **changes)[0], input_signature=[ROWS],
                       autograph=False)


def rows(count: int) -> tf.Tensor:
    return tf.random.normal([count, 4])


def run(function: Callable[[tf.Tensor], tf.Tensor], *counts: int) -> None:
    for count in counts:
        batch = rows(count)
        np.testing.assert_array_equal(function(batch), product(batch))


def serving(loaded: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda batch: loaded.signatures["serving_default"](batch)["output_0"]


def profiles(file: Path) -> list[list[tuple[list[int], list[int]]]]:
    """Of each engine in an engine file: its profiles as (min, max) of the first input."""
    found = []
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        engine = attr_value_pb2.AttrValue.FromString(record.partition(b"TRT-shim-engine")[2])
        sizes = [[[d.size for d in func.attr[end].list.shape[0].dim] for end in ("min", "max")]
                 for func in engine.list.func]
        found.append([(low, high) for low, high in sizes])
    return found


def serialize(name: str, file: Path, **options: bool) -> Path:
    gen_trt_ops.serialize_trt_resource(name, str(file), **options)
    return file


# ---- profiles


def test_the_first_request_fixes_the_shapes_for_good(name: str, events: Events) -> None:
    function = product_engine(name)
    run(function, 2, 3, 2)
    assert events() == ["build", "engine", "native", "engine"]


def test_collected_shapes_make_one_range(name: str, events: Events, tmp_path: Path) -> None:
    run(product_engine(name, _profile_generation_mode=True), 1, 8, 2)
    assert events() == ["profile"] * 3
    run(product_engine(name), 4, 1, 8, 9)
    assert events() == ["build", "engine", "engine", "engine", "native"]
    assert profiles(serialize(name, tmp_path / "engine")) == [[([1, 4], [8, 4])]]
    with pytest.raises(tf.errors.UnimplementedError, match="profiles are already created"):
        product_engine(name, _profile_generation_mode=True)(rows(1))


@pytest.mark.parametrize(("strategy", "engine", "native"), [
    ("Optimal", [2, 8], [3, 1]), ("Range+Optimal", [2, 3, 8], [1]), ("ImplicitBatchModeCompatible", [1, 8], [9])])
def test_other_strategies(name: str, events: Events, strategy: str, engine: list[int], native: list[int]) -> None:
    run(product_engine(name, _profile_generation_mode=True), 2, 8)
    run(product_engine(name, profile_strategy=strategy), *engine, *native)
    assert events()[2:] == ["build", *["engine"] * len(engine), *["native"] * len(native)]


def test_implicit_batch_takes_smaller_batches_and_builds_for_larger_ones(name: str, events: Events) -> None:
    run(product_engine(name, _use_implicit_batch=True), 4, 2, 5, 4)
    assert events() == ["build", "engine", "engine", "build", "engine", "engine"]


# ---- no engine


def test_shapes_that_the_graph_does_not_expect_run_natively(name: str, events: Events, capfd: Any) -> None:
    run(product_engine(name, input_shapes=[[8, 4]]), 2)
    run(product_engine(name, input_shapes=[tf.TensorShape(None)]), 2)
    assert events() == ["native", "native"]
    assert "Input shapes do not match input partial shapes stored in graph" in capfd.readouterr().err


def test_building_may_be_forbidden(name: str, events: Events, capfd: Any) -> None:
    run(product_engine(name, _allow_build_at_runtime=False), 2, 2)
    assert events() == ["native", "native"]
    assert capfd.readouterr().err.count("Not building a new engine because allow_build_at_runtime=False.") == 1


def test_building_may_fail(name: str, events: Events, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TF_TRT_ABORT_CUDA_ENGINE_BUILD", "true")
    run(product_engine(name), 2)
    monkeypatch.delenv("TF_TRT_ABORT_CUDA_ENGINE_BUILD")
    run(product_engine(name), 2)
    assert events() == ["native", "native"], "it is not tried again"
    assert profiles(serialize(name, tmp_path / "engine")) == []


def test_native_execution_may_be_forbidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION", "false")
    function = product_engine(name)
    run(function, 2)
    with pytest.raises(tf.errors.AbortedError, match="User disallowed engine native segment execution"):
        function(rows(3))


def test_attributes_are_checked(name: str) -> None:
    for changes, reason in (({"profile_strategy": ""}, "Invalid profile strategy"),
                            ({"input_shapes": []}, "requires attribute input_shapes"),
                            ({"_use_implicit_batch": True, "_profile_generation_mode": True}, "only supported if")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
            product_engine(name, **changes)(rows(1))


# ---- engine files


def test_a_saved_model_carries_its_engine(name: str, events: Events, tmp_path: Path, capfd: Any) -> None:
    run(product_engine(name), 2)
    assert f"Building a new TensorRT engine for {name} with input shapes: [[?,4]]" in capfd.readouterr().err
    file = serialize(name, tmp_path / f"trt-serialized-engine.{name}", delete_resource=True)
    with pytest.raises(tf.errors.NotFoundError, match="not yet created"):
        serialize(name, file)
    module = tf.Module()
    module.trt_engine_resources = {name: trt_convert._TRTEngineResource(name, str(file), 1)}
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=product_engine(name, _allow_build_at_runtime=False))
    assert events() == ["build", "engine", "save"]

    loaded = tf.saved_model.load(str(tmp_path / "model"))
    assert events() == ["load"]
    run(serving(loaded), 2, 3)
    assert events() == ["engine", "native"]
    with pytest.raises(tf.errors.InternalError, match="Expect engine cache to be empty, but got 1 entries"):
        tf.saved_model.load(str(tmp_path / "model"))
    del loaded
    tf.saved_model.load(str(tmp_path / "model"))


def test_engines_need_not_be_saved(name: str, tmp_path: Path) -> None:
    run(product_engine(name), 2)
    assert profiles(serialize(name, tmp_path / "engine", save_gpu_specific_engines=False)) == []


def test_a_file_of_other_engines_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "engine"
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(b"\x12\x04ftrt")  # serialized_engine = "ftrt"
    handle = gen_trt_ops.create_trt_resource_handle(name)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not an engine of this shim"):
        gen_trt_ops.initialize_trt_resource(handle, str(file))
    with pytest.raises(tf.errors.NotFoundError):
        gen_trt_ops.initialize_trt_resource(handle, str(tmp_path / "none"))


def test_an_engine_may_be_an_attribute(name: str, events: Events, tmp_path: Path) -> None:
    run(product_engine(name), 2)
    record = next(tf.data.TFRecordDataset(str(serialize(name, tmp_path / "engine"))).as_numpy_iterator())
    engine = record[record.index(b"TRT-shim-engine"):]
    events()
    run(product_engine(name + "_static", static_engine=True, serialized_segment=engine), 2, 3)
    assert events() == ["engine", "native"]
    static = product_engine(name + "_other", static_engine=True, serialized_segment=b"ftrt",
                            _allow_build_at_runtime=False)
    run(static, 2)
    assert events() == ["native"]


# ---- calibration


@pytest.mark.parametrize("implicit", [True, False])
def test_calibration(name: str, events: Events, tmp_path: Path, implicit: bool) -> None:
    function = product_engine(name, precision_mode="INT8", use_calibration=True, _use_implicit_batch=implicit)
    run(function, 4, 4)
    assert events() == ["calibrate", "calibrate"]
    with pytest.raises(tf.errors.InternalError, match="differ in size"):
        function(rows(3))
    assert gen_trt_ops.get_calibration_data_op(name).numpy() == b"TRT-shim-calibration 2"
    run(function, 4)
    assert events() == ["build", "engine"]
    low = 1 if implicit else 4
    assert profiles(serialize(name, tmp_path / "engine")) == [[([low, 4], [4, 4])]]


def test_calibration_data_of_an_engine_that_was_not_calibrated(name: str, events: Events) -> None:
    with pytest.raises(tf.errors.NotFoundError):
        gen_trt_ops.get_calibration_data_op(name)
    run(product_engine(name, precision_mode="INT8", use_calibration=True, calibration_data=b"table"), 2)
    assert events() == ["build", "engine"]
    with pytest.raises(tf.errors.InternalError, match="was not calibrated"):
        gen_trt_ops.get_calibration_data_op(name)


# ---- where the op may be


@pytest.mark.parametrize("lowered", [True, False])
def test_in_a_loops_body(name: str, events: Events, lowered: bool) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None])])
    def double(values: tf.Tensor) -> tf.Tensor:
        return values * 2

    @tf.function(input_signature=[tf.TensorSpec([None])])
    def grow(values: tf.Tensor) -> tf.Tensor:
        def body(step: tf.Tensor, values: tf.Tensor) -> Any:
            doubled, = engine_op(name, [values], double.get_concrete_function())
            return step + 1, tf.concat([tf.ensure_shape(doubled, [None]), [1.0]], 0)

        _, grown = tf.while_loop(lambda step, _: step < 3, body, (0, values),
                                 (tf.TensorShape([]), tf.TensorShape([None])))
        loop = next(op for op in grown.graph.get_operations() if "While" in op.type)
        loop._set_attr("_lower_using_switch_merge", attr_value_pb2.AttrValue(b=lowered))
        return grown

    for _ in range(2):
        assert grow(tf.constant([1.0])).numpy().tolist() == [8, 4, 2, 1]
    assert events() == ["build", "engine", "native", "native", "engine", "native", "native"]


def test_behind_constants(name: str, events: Events) -> None:
    """Grappler folds what has a CPU kernel; TF-TRT's ops have none in the wild."""
    batch = np.ones([2, 4], np.float32)
    folded = tf.function(lambda: product_engine(name)(batch))
    np.testing.assert_array_equal(folded(), product(batch))
    folded()
    assert events() == ["build", "engine", "engine"]


def test_variables_and_other_dtypes(name: str, events: Events) -> None:
    """Unfrozen models pass variables to their engines."""
    variable = tf.Variable(WEIGHTS)

    @tf.function(input_signature=[ROWS, tf.TensorSpec([], tf.resource), tf.TensorSpec([None], tf.int32)])
    def segment(rows: tf.Tensor, handle: tf.Tensor, indices: tf.Tensor) -> Any:
        weights = tf.ensure_shape(tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32), [4, 3])
        return rows @ weights, indices + 1, indices > 0

    @tf.function(input_signature=[ROWS, tf.TensorSpec([None], tf.int32)])
    def function(rows: tf.Tensor, indices: tf.Tensor) -> Any:
        return engine_op(name, [rows, variable.handle, indices], segment.get_concrete_function())

    for scale in (1, 2):
        variable.assign(WEIGHTS * scale)
        batch = rows(2)
        got = function(batch, [0, 4])
        np.testing.assert_array_equal(got[0], batch @ (WEIGHTS * scale))
        assert [value.numpy().tolist() for value in got[1:]] == [[1, 5], [False, True]]
    assert events() == ["build", "engine", "engine"]


def test_many_threads_build_one_engine(name: str, events: Events) -> None:
    function = product_engine(name, _use_implicit_batch=True)
    run(product_engine(name + "_first"), 1)
    events()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: run(function, 4, 2, 3), range(25)))
    found = Counter(events())
    assert found["engine"] == 75
    assert 1 <= found["build"] <= 3, "one for the largest batch, at most one for each size"
