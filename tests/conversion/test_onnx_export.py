"""A small attention model becomes ONNX that answers as TensorFlow does, whatever batch and length it gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tensorflow as tf

from trt_pipeline.conversion.freeze import freeze
from trt_pipeline.conversion.onnx_export import IR_VERSION, OPSET, export
from trt_pipeline.errors import Unsupported
from trt_pipeline.model import saved_model

WIDTH, HEADS = 32, 4


class Attention(tf.Module):
    """tokens (N, T) -> logits (N, T, 7) and pooled (N, 32): embedding, self-attention, dense; all axes free."""

    def __init__(self) -> None:
        super().__init__()
        generator = np.random.default_rng(0)

        def weights(*shape: int) -> tf.Variable:
            return tf.Variable(generator.normal(0, 0.2, shape).astype(np.float32))

        self.embedding = weights(100, WIDTH)
        self.projections = [weights(WIDTH, WIDTH) for _ in range(3)]  # 4 KiB each: taken out and put back
        self.dense = weights(WIDTH, 7)

    def heads(self, x: tf.Tensor, projection: tf.Variable) -> tf.Tensor:
        # A dense layer on rank 3 ends in a Reshape, and the heads begin with one that copies its axes 0 and 1:
        # tf2onnx 1.16 and 1.17 merge the two, after which those axes are another tensor's.
        dense = tf.tensordot(x, projection, axes=1)
        size = tf.shape(dense)
        return tf.transpose(tf.reshape(dense, [size[0], size[1], HEADS, WIDTH // HEADS]), [0, 2, 1, 3])

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, "tokens")])
    def __call__(self, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.gather(self.embedding, tokens)
        size = tf.shape(x)
        query, key, value = (self.heads(x, projection) for projection in self.projections)
        mask = tf.cast(tf.equal(tokens, 0), tf.float32)[:, tf.newaxis, tf.newaxis, :] * -1e9
        weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) + mask)
        mixed = tf.reshape(tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3]), [size[0], size[1], WIDTH])
        x = x + mixed
        return {"logits": tf.einsum("nth,hc->ntc", x, self.dense), "pooled": tf.reduce_mean(x, axis=1)}


def exported(module: tf.Module, function: Any, folder: Path) -> tuple[Any, Path, dict[str, Any]]:
    """The loaded signature, the ONNX file made of it, and the facts."""
    tf.saved_model.save(module, str(folder / "model"), signatures=function)
    loaded = tf.saved_model.load(str(folder / "model"))
    signature = loaded.signatures["serving_default"]
    signature.keep = loaded
    contract = saved_model.read_contract(folder / "model").signatures["serving_default"]
    facts = export(freeze(signature), contract, folder / "onnx" / "model.onnx")
    return signature, folder / "onnx" / "model.onnx", facts


def session(file: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def attention(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, dict[str, Any]]:
    module = Attention()
    return exported(module, module.__call__, tmp_path_factory.mktemp("attention"))


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 9), (2, 3), (3, 2), (5, 17), (4, 4)])
def test_it_answers_as_tensorflow_does_at_every_batch_and_length(attention: Any, batch: int, length: int) -> None:
    signature, file, _ = attention
    tokens = np.random.default_rng(batch * length).integers(0, 100, (batch, length)).astype(np.int32)
    expected = signature(tokens=tf.constant(tokens))
    names = ["logits", "pooled"]
    for name, got in zip(names, session(file).run(names, {"tokens": tokens}), strict=True):
        assert got.shape == tuple(expected[name].shape)
        np.testing.assert_allclose(got, expected[name].numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_names_and_free_axes_are_the_signature_s_own(attention: Any) -> None:
    graph = onnx.load(str(attention[1])).graph

    def described(values: Any) -> dict[str, list[Any]]:
        return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    assert described(graph.input) == {"tokens": ["batch", "tokens_1"]}
    assert described(graph.output) == {"logits": ["batch", "logits_1", 7], "pooled": ["batch", WIDTH]}


def test_the_file_is_standard_onnx_that_older_servers_load(attention: Any) -> None:
    made = onnx.load(str(attention[1]))
    onnx.checker.check_model(made, full_check=True)
    assert made.ir_version <= IR_VERSION
    assert [entry.version for entry in made.opset_import if entry.domain in ("", "ai.onnx")] == [OPSET]
    assert {node.domain for node in made.graph.node} <= {"", "ai.onnx"}


def test_weights_are_inside_and_nothing_else_is_left_behind(attention: Any) -> None:
    made = onnx.load(str(attention[1]))
    sizes = [int(np.prod(i.dims)) for i in made.graph.initializer]
    assert sizes.count(WIDTH * WIDTH) == 3
    assert [p.name for p in attention[1].parent.iterdir()] == ["model.onnx"]


def test_the_facts_count_the_operations(attention: Any) -> None:
    facts = attention[2]
    assert facts["loop weights hoisted"] == 0
    assert facts["nodes"]["MatMul"] >= 5


def simple(function: Callable[..., Any], tmp_path: Path, *specs: tf.TensorSpec) -> tuple[Any, Path, dict[str, Any]]:
    module = tf.Module()
    module.call = tf.function(function, input_signature=list(specs))
    return exported(module, module.call, tmp_path)


X = tf.TensorSpec([None, 8], tf.float32, "x")


def test_the_weights_of_a_loop_are_hoisted_and_the_answer_is_the_same(tmp_path: Path) -> None:
    module = tf.Module()
    module.kernel = tf.Variable(np.random.default_rng(0).normal(0, 0.3, (8, 8)).astype(np.float32))
    module.call = tf.function(
        lambda x: {"y": tf.while_loop(lambda i, h: i < 4, lambda i, h: (i + 1, tf.tanh(h @ module.kernel)), (0, x))[1]},
        input_signature=[X])
    signature, file, facts = exported(module, module.call, tmp_path)
    assert facts["loop weights hoisted"] >= 1
    x = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    got = session(file).run(["y"], {"x": x})[0]
    np.testing.assert_allclose(got, signature(x=tf.constant(x))["y"].numpy(), rtol=1e-5, atol=1e-6)


def test_two_outputs_of_equal_shape_are_not_swapped(tmp_path: Path) -> None:
    signature, file, _ = simple(lambda x: {"zeta": x + 1.0, "alpha": x * 2.0}, tmp_path, X)
    x = np.ones((2, 8), np.float32) * 3
    assert [float(v[0, 0]) for v in session(file).run(["zeta", "alpha"], {"x": x})] == [4.0, 6.0]
    assert float(signature(x=tf.constant(x))["zeta"][0, 0]) == 4.0


def test_an_output_that_is_an_input_and_one_that_stands_twice(tmp_path: Path) -> None:
    def call(x: Any) -> dict[str, Any]:
        y = x * 2.0
        return {"same": x, "a": y, "b": y}

    _, file, _ = simple(call, tmp_path, X)
    x = np.ones((2, 8), np.float32)
    assert [float(v[0, 0]) for v in session(file).run(["same", "a", "b"], {"x": x})] == [1.0, 2.0, 2.0]


# --- Refusals ---


def refusal(function: Callable[..., Any], tmp_path: Path, *specs: tf.TensorSpec) -> str:
    with pytest.raises(Unsupported) as caught:
        simple(function, tmp_path, *specs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_operations_without_an_onnx_form_are_named(tmp_path: Path) -> None:
    text = refusal(lambda x: {"y": tf.math.lgamma(x) + tf.math.digamma(x)}, tmp_path, X)
    assert text.startswith("signature serving_default has operations without an ONNX form: ")
    assert "Digamma x1" in text
    assert "Lgamma x1" in text


def test_an_unsupported_operation_inside_a_loop_is_named(tmp_path: Path) -> None:
    def call(x: Any) -> dict[str, Any]:
        return {"y": tf.while_loop(lambda i, h: i < 4, lambda i, h: (i + 1, tf.math.digamma(h)), (0, x))[1]}

    assert "Digamma" in refusal(call, tmp_path, X)


def test_a_table_is_refused(tmp_path: Path) -> None:
    module = tf.Module()
    keys, values = tf.constant([1], tf.int64), tf.constant([2.5])
    module.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0.0)
    module.call = tf.function(lambda ids: {"y": module.table.lookup(ids)},
                              input_signature=[tf.TensorSpec([None], tf.int64, "ids")])
    with pytest.raises(Unsupported) as caught:
        exported(module, module.call, tmp_path)
    assert str(caught.value) == "signature serving_default uses a look-up table, which ONNX has no form for"


def test_strings_are_refused(tmp_path: Path) -> None:
    text = refusal(lambda s: {"n": tf.strings.length(s)}, tmp_path, tf.TensorSpec([None], tf.string, "s"))
    assert "StringLength" in text
