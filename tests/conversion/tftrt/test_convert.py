"""From a SavedModel to one with engines: the contract kept, and each odd kind of signature converted or refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import ROOT
from tests.conversion.tftrt.builders import (
    answers,
    converted,
    floats,
    graph_of,
    numbers,
    save,
    signature,
    standing_in,
    variable,
)
from trt_pipeline import digest
from trt_pipeline.backends import tf_trt
from trt_pipeline.calibration import ranges
from trt_pipeline.conversion.tftrt import segment
from trt_pipeline.conversion.tftrt.convert import convert
from trt_pipeline.conversion.tftrt.segment import engines
from trt_pipeline.errors import InputError, Unsupported
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import differences

DEMO = ROOT / "models/demo/1"
X = numbers(3, 8, seed=1)
BOTH_WAYS = pytest.mark.parametrize("freeze", ["always", "never"])


# --- The whole contract ---


@BOTH_WAYS
def test_the_demo_keeps_its_whole_contract(freeze: str, tmp_path: Path) -> None:
    """Three signatures, of which one classifies and one has nothing for TensorRT; two tables; an asset."""
    artifact, made = converted(DEMO, tmp_path / "made", freeze=freeze)
    contract = saved_model.read_contract(DEMO)
    assert differences(contract, saved_model.read_contract(made)) == []
    assert contract.signatures["classify"].method_name == "tensorflow/serving/classify"
    assert {name for name, one in artifact.coverage.items() if one.engines} == {"serving_default", "classify"}
    assert artifact.description["lookup"] == {
        "unchanged": "TensorRT takes nothing of it: LookupTableFindV2 x1 (TensorRT's converter does not know it)"}
    assert len(engines(graph_of(made))) == 2
    assert list((made / "assets").iterdir())


def test_defaults_shapes_and_order_are_kept(tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    module = tf.Module()
    module.weight = variable(8, 8)
    specs = [floats(None, 8, name="zeta"), floats(None, 1, name="alpha")]
    model = save(tmp_path / "model", module, serving_default=(
        lambda zeta, alpha: {"b": tf.nn.relu(zeta @ module.weight) * alpha, "a": tf.tanh(zeta) + 1.0}, specs))
    parsed = saved_model_pb2.SavedModel.FromString((model / "saved_model.pb").read_bytes())
    parsed.meta_graphs[0].signature_def["serving_default"].defaults["alpha"].CopyFrom(
        tf.make_tensor_proto([[2.0]], tf.float32))
    (model / "saved_model.pb").write_bytes(parsed.SerializeToString())
    (model / "assets.extra").mkdir()
    (model / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"requests")
    _, made = converted(model, tmp_path / "made")
    original, written = (saved_model.read_contract(m).signatures["serving_default"] for m in (model, made))
    assert (list(written.inputs), list(written.outputs)) == (list(original.inputs), list(original.outputs))
    assert written.inputs["alpha"].default_array().tolist() == [[2.0]]
    assert written.outputs["b"].shape == (None, 8)
    assert (made / "assets.extra" / "tf_serving_warmup_requests").read_bytes() == b"requests"


# --- Signatures of unusual shape ---


class Model(tf.Module):
    """Two weights for whatever a test computes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.other = variable(8, 8), variable(8, 8, seed=1)

    def dense(self, x: Any) -> Any:
        return tf.nn.relu(x @ self.weight) + 1.0

    def branches(self, x: Any) -> dict[str, Any]:
        hidden = self.dense(x)
        return {"y": tf.cond(tf.reduce_sum(x) > 0, lambda: self.dense(tf.tanh(hidden)), lambda: hidden - 1.0)}

    def cases(self, x: Any) -> dict[str, Any]:
        hidden = self.dense(x)
        chosen = tf.cast(tf.reduce_sum(x) > 0, tf.int32) + tf.shape(x)[0] % 2
        return {"y": tf.switch_case(chosen, [lambda: hidden @ self.other, lambda: tf.tanh(hidden), lambda: hidden])}

    def function_twice(self, x: Any) -> dict[str, Any]:
        return {"y": self.repeated(self.dense(x)) + self.repeated(tf.tanh(x))}

    @tf.function(autograph=False)
    def repeated(self, x: Any) -> Any:
        """A loop in a loop, the inner with a constant that the outer's body makes."""

        def outer(h: Any) -> Any:
            weight = tf.constant(numbers(8, 8, seed=5, scale=0.2))
            step = lambda i, g: (i + 1, tf.tanh(tf.nn.relu(g @ weight) + g))  # noqa: E731
            return tf.while_loop(lambda i, g: i < 2, step, [0, h])[1]

        return tf.while_loop(lambda i, h: i < 2, lambda i, h: (i + 1, outer(h @ self.other)), [0, x])[1]

    def not_inlined(self, x: Any) -> dict[str, Any]:
        kept = tf.function(self.dense, experimental_attributes={"_noinline": True}, autograph=False)
        return {"y": kept(kept(x))}

    def checked(self, x: Any) -> dict[str, Any]:
        hidden = self.dense(x)
        with tf.control_dependencies([tf.debugging.assert_less(hidden, 1e6, message="too hot")]):
            later = tf.tanh(tf.identity(hidden) @ self.other) * 2.0
        with tf.control_dependencies([later]):
            return {"y": later + 1.0, "after": tf.reduce_sum(x) * tf.constant(3.0)}

    def plain_outputs(self, x: Any) -> dict[str, Any]:
        return {"same": x, "again": x, "constant": tf.constant([1.0, 2.0]), "weight": self.weight * 1.0,
                "y": self.dense(x)}

    def other_types(self, x: Any) -> dict[str, Any]:
        hidden = self.dense(x)
        return {"text": tf.strings.as_string(tf.argmax(hidden, axis=1)), "index": tf.argmax(hidden, axis=1),
                "rows": tf.shape(x)[0], "flag": tf.reduce_any(hidden > 1.0, axis=1), "y": hidden}


SHAPES = ("branches", "cases", "not_inlined", "checked", "plain_outputs", "other_types")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = Model()
    return save(tmp_path_factory.mktemp("shapes") / "model", module,
                **{name: (getattr(module, name), [floats(None, 8)]) for name in SHAPES})


@pytest.fixture(scope="module", params=["always", "never"])
def made(request: pytest.FixtureRequest, model: Path) -> Path:
    return converted(model, model.with_name(request.param), freeze=request.param)[1]


@pytest.mark.parametrize("name", SHAPES)
def test_it_answers_as_the_original(name: str, model: Path, made: Path) -> None:
    for x in (X, -X, np.abs(X[:2])):
        expected, got = answers(model, name, x=x), standing_in(made, "surgery", name, x=x)
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(got[key], value, rtol=1e-5, atol=1e-6, err_msg=key)
            else:
                np.testing.assert_array_equal(got[key], value, err_msg=key)


def test_a_check_that_refuses_bad_input_still_does(made: Path) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="too hot"):
        standing_in(made, "surgery", "checked", x=np.full((1, 8), 1e8, np.float32))


@BOTH_WAYS
def test_a_function_with_loops_that_is_called_twice(freeze: str, tmp_path: Path) -> None:
    """Inlined twice, its calls share the outer body, and the inner body is reached by two ways."""
    module = Model()
    original = save(tmp_path / "model", module, serving_default=(module.function_twice, [floats(None, 8)]))
    _, written = converted(original, tmp_path / "made", freeze=freeze)
    np.testing.assert_allclose(standing_in(written, "surgery", x=X)["y"], answers(original, x=X)["y"], rtol=1e-5)


def test_a_signature_without_inputs(tmp_path: Path) -> None:
    module = Model()
    noise = [1, 2]
    original = save(tmp_path / "model", module, serving_default=(
        lambda: {"y": module.dense(tf.random.stateless_uniform([4, 8], noise))}, []))
    artifact, written = converted(original, tmp_path / "made", freeze="never")
    assert artifact.coverage["serving_default"].engines == 1
    np.testing.assert_allclose(standing_in(written, "surgery")["y"], answers(original)["y"], rtol=1e-6)


# --- SavedModels of TensorFlow 1 ---

v1 = tf.compat.v1


def from_tensorflow_1(folder: Path, build: Callable[[], tuple[dict[str, Any], dict[str, Any]]],
                      *more_tags: str) -> Path:
    """A SavedModel as TensorFlow 1 writes it: its signature names tensors, and its inputs keep their own names.

    ``more_tags`` get a second MetaGraph of the same graph.
    """
    v1.enable_control_flow_v2()
    with tf.Graph().as_default(), v1.Session() as session:
        inputs, outputs = build()
        session.run(v1.global_variables_initializer())
        described = v1.saved_model.build_signature_def(
            {name: v1.saved_model.build_tensor_info(tensor) for name, tensor in inputs.items()},
            {name: v1.saved_model.build_tensor_info(tensor) for name, tensor in outputs.items()},
            "tensorflow/serving/predict")
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map={"serving_default": described})
        if more_tags:
            builder.add_meta_graph([*more_tags], signature_def_map={"serving_default": described})
        builder.save()
    return folder


def dense_of(x: Any) -> Any:
    return tf.nn.relu(x @ v1.get_variable("w", initializer=numbers(8, 8, scale=0.3))) + 1.0


def test_only_the_meta_graph_with_the_tags_is_converted(tmp_path: Path) -> None:
    def build() -> Any:
        x = v1.placeholder(tf.float32, [None, 8], "x")
        return {"x": x}, {"y": dense_of(x)}

    original = from_tensorflow_1(tmp_path / "model", build, "serve", "gpu")
    _, written = converted(original, tmp_path / "made")
    assert [set(m.meta_info_def.tags) for m in saved_model.parse(written).meta_graphs] == [{"serve"}]
    np.testing.assert_allclose(standing_in(written, "surgery", x=X)["y"], answers(original, x=X)["y"], rtol=1e-6)


@BOTH_WAYS
def test_an_output_that_is_the_loop_s_own(freeze: str, tmp_path: Path) -> None:
    """Dropping variables renumbers a loop's outputs, and the signature still names the old number."""

    def build() -> Any:
        x = v1.placeholder(tf.float32, [None, 8], "x")
        kernel = v1.get_variable("w", initializer=numbers(8, 8, scale=0.3))
        tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(tf.nn.relu(h @ kernel) + h)), [0, x])
        loop = next(op for op in x.graph.get_operations() if op.type in ("While", "StatelessWhile"))
        return {"x": x}, {"y": next(tensor for tensor in loop.outputs if tensor.shape.rank == 2)}

    original = from_tensorflow_1(tmp_path / "model", build)
    _, written = converted(original, tmp_path / "made", freeze=freeze)
    np.testing.assert_allclose(standing_in(written, "surgery", x=X)["y"], answers(original, x=X)["y"], rtol=1e-6)


@pytest.mark.parametrize("name", ["images", "image/encoded", "a-b"])
def test_an_input_s_name_need_not_be_its_tensor_s(name: str, tmp_path: Path) -> None:
    """As is usual from TensorFlow 1."""

    def build() -> Any:
        x = v1.placeholder(tf.float32, [None, 8], "x")
        return {name: x}, {"y": dense_of(x)}

    original = from_tensorflow_1(tmp_path / "model", build)
    _, written = converted(original, tmp_path / "made")
    assert differences(saved_model.read_contract(original), saved_model.read_contract(written)) == []
    np.testing.assert_allclose(standing_in(written, "surgery", **{name: X})["y"],
                               answers(original, **{name: X})["y"], rtol=1e-6)


@pytest.mark.parametrize("name", ["a-b", "a/b"])
def test_an_input_s_name_with_odd_characters(name: str, tmp_path: Path) -> None:
    """It need not be a name that Python allows."""
    module = Model()
    original = save(tmp_path / "model", module,
                    serving_default=(lambda x: {"y": module.dense(x)}, [floats(None, 8, name=name)]))
    _, written = converted(original, tmp_path / "made")
    assert differences(saved_model.read_contract(original), saved_model.read_contract(written)) == []


# --- Refusals and precisions ---


def test_what_was_converted_already_is_refused(tmp_path: Path) -> None:
    module = Model()
    original = save(tmp_path / "model", module, serving_default=(lambda x: {"y": module.dense(x)}, [floats(None, 8)]))
    _, written = converted(original, tmp_path / "made")
    with pytest.raises(Unsupported, match="it has TensorRT segments already"):
        convert(signature(written), "fp32", "p", keep_variables=False)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_quantized_graph_is_refused_at_other_precisions(precision: str, tmp_path: Path) -> None:
    """One such operation makes the pass build everything at INT8, whatever was asked."""

    def call(x: Any) -> dict[str, Any]:
        quantized = tf.raw_ops.QuantizeAndDequantizeV2(input=x, input_min=-1.0, input_max=1.0, range_given=True)
        return {"y": tf.nn.relu(quantized * 2.0) + 1.0}

    original = save(tmp_path / "model", tf.Module(), serving_default=(call, [floats(None, 8)]))
    with pytest.raises(Unsupported, match=r"is quantized already .*, which TF-TRT can only build at int8"):
        convert(signature(original), precision, "p", keep_variables=False)


def test_a_precision_that_the_pass_changed_by_itself_is_refused(tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """Where INT8 finds no Q/DQ in a segment, it makes FP16 of it and says nothing."""
    plain = segment.segment

    def changing(*arguments: Any, **more: Any) -> Any:
        made = plain(*arguments, **more)
        for engine in engines(made):
            engine.attr["precision_mode"].s = b"FP16"
        return made

    monkeypatch.setattr(segment, "segment", changing)
    module = Model()
    original = save(tmp_path / "model", module, serving_default=(lambda x: {"y": module.dense(x)}, [floats(None, 8)]))
    with pytest.raises(Unsupported, match="TF-TRT made engines at fp16 where int8 was asked"):
        convert(signature(original), "int8", "p", keep_variables=False, calibrator="tensorrt")


def test_all_signatures_refused_is_one_line_with_every_reason(tmp_path: Path) -> None:
    calls = {name: (lambda x: {"y": tf.math.lgamma(x)}, [floats(None)]) for name in ("one", "two")}
    original = save(tmp_path / "model", tf.Module(), **calls)
    with pytest.raises(Unsupported) as caught:
        converted(original, tmp_path / "made")
    assert re.fullmatch(r"signature one: TensorRT takes nothing of it: Lgamma .*; signature two: .*",
                        str(caught.value))


def test_ranges_of_another_model_stop_the_conversion(tmp_path: Path) -> None:
    file = tmp_path / "ranges.json"
    ranges.write(file, ranges.RangesFile(method="minmax", model_digest="other", samples_digest="", count=1,
                                         signatures={}))
    with pytest.raises(InputError, match="was made for another model"):
        converted(DEMO, tmp_path / "made", "int8", ranges=file)


def test_int8_by_other_ranges_gives_engines_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under one name, a server that loads the new version beside the old finds the old's built engine."""
    prefixes = []

    def refuse(function: Any, precision: str, prefix: str, **more: Any) -> Any:
        prefixes.append(prefix)
        raise Unsupported("only the name is wanted")

    monkeypatch.setattr(tf_trt, "convert_signature", refuse)
    original = save(tmp_path / "model", tf.Module(), serving_default=(lambda x: {"y": x * 2.0}, [floats(None, 8)]))
    file = tmp_path / "ranges.json"
    for largest in (1.0, 3.0):
        tables = ranges.SignatureRanges(ranges={"x:0": (-largest, largest)}, extents={})
        ranges.write(file, ranges.RangesFile(method="minmax", model_digest=digest.of_folder(original),
                                             samples_digest="", count=1, signatures={"serving_default": tables}))
        with pytest.raises(Unsupported):
            converted(original, tmp_path / "made", "int8", ranges=file)
    assert prefixes[0] != prefixes[1]
