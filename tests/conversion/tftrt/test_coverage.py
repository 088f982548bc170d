"""What went into engines and what stayed out, with the pass's own reason; and the ear that hears it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tests.conversion.tftrt.builders import Graph, floats, numbers, save, signature, variable
from trt_pipeline.conversion.tftrt import coverage, segment
from trt_pipeline.conversion.tftrt.convert import convert
from trt_pipeline.errors import Unsupported
from trt_pipeline.model.coverage import Coverage, LeftOut

VARIABLE = "TF_TRT_SHOW_DETAILED_REPORT"
FIRST, SECOND = numbers(8, 16), numbers(16, 4)


def measured(call: Any, *specs: tf.TensorSpec) -> Coverage:
    graph = Graph(call, *specs)
    with coverage.reporting() as listener:
        made = segment.segment(graph.graph_def, graph.inputs, graph.outputs, "fp32", "p")
    return coverage.measure(made, listener.text)


def split(x: Any) -> Any:
    """Three operations in one engine, one that TensorRT does not know, and a product that stands alone."""
    hidden = tf.nn.relu(x @ FIRST) + 1.0
    return tf.matmul(tf.math.lgamma(hidden), SECOND)


def test_a_whole_net_in_one_engine() -> None:
    found = measured(lambda x: tf.nn.relu(tf.nn.relu(x @ FIRST) @ SECOND) + 1.0, floats(None, 8))
    assert (found.engines, found.share, found.flops_share) == (1, 1.0, 1.0)
    assert found.flops == found.flops_in_engines == 2 * 8 * 16 + 2 * 16 * 4
    assert (found.operations, found.left_out) == (5, ())
    assert found.nodes_in_largest == 5 + 3, "its constants count, as in TensorRT's own logs"
    assert str(found) == "1 engine, 100 % of operations, 100 % of FLOPs"


def test_shares_are_of_operations_and_of_work() -> None:
    found = measured(split, floats(None, 8))
    assert (found.engines, found.operations, found.operations_in_engines) == (1, 5, 3)
    assert (found.flops, found.flops_in_engines) == (2 * 8 * 16 + 2 * 16 * 4, 2 * 8 * 16)
    assert str(found) == "1 engine, 60 % of operations, 67 % of FLOPs"


def test_what_was_left_out_is_named_with_the_pass_s_reason() -> None:
    found = {left.op: left for left in measured(split, floats(None, 8)).left_out}
    assert found.keys() == {"Lgamma", "MatMul"}
    assert found["Lgamma"] == LeftOut(op="Lgamma", count=1, why="TensorRT's converter does not know it")
    assert found["MatMul"].why.startswith("TensorRT could take it, but ")
    assert str(found["Lgamma"]) == "Lgamma x1 (TensorRT's converter does not know it)"


def test_a_reason_of_a_converter_stands_in_its_words() -> None:
    def call(x: Any, kernel: Any) -> Any:
        return tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME")) * 2.0 + 1.0

    found = measured(call, floats(None, 5, 5, 2), floats(3, 3, 2, 4, name="kernel"))
    reasons = {left.op: left.why for left in found.left_out}
    assert reasons["Conv2D"] == 'The input "filter" for Conv2D must be a constant'


def test_reasons_of_one_type_are_counted_apart() -> None:
    report = ("\t- Cast -> 3x\n\t\t- [Count: 2x] Cast op is not supported - Allowed output dtypes: [float, half]."
              " Received: int32\n\t\t- [Count: 1x] excluded by segmenter option. Most likely an input or output node.\n"
              "\t- Gone -> 4x\n\t\t- [Count: 4x] Op type Gone is not supported.\n")
    graph = Graph(lambda x: [tf.cast(tf.cast(tf.cast(tf.cast(x, tf.int32), tf.int64), tf.int8), tf.int16)],
                  floats(None))
    found = coverage.measure(graph.graph_def, report)
    assert [(left.op, left.count) for left in found.left_out] == [("Cast", 2), ("Cast", 1), ("Cast", 1)]
    reasons = [left.why for left in found.left_out]
    assert reasons[0] == "Cast op is not supported - Allowed output dtypes: [float, half]. Received: int32"
    assert reasons[1] == "an input or output of the graph"
    assert reasons[2].startswith("TensorRT could take it, but ")
    assert sum(left.count for left in found.left_out) == found.operations


def test_operations_in_bodies_count() -> None:
    kernel = tf.constant(numbers(8, 8))

    def call(x: Any) -> Any:
        return tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.math.lgamma(h) @ kernel), [0, x])[1]

    found = measured(call, floats(None, 8))
    assert {"Lgamma", "MatMul", "Less"} <= {left.op for left in found.left_out}
    assert (found.engines, found.flops_share, found.share) == (0, 0.0, 0.0)


def test_a_graph_without_products_has_no_share_of_work() -> None:
    found = measured(lambda x: tf.nn.relu(x) * 2.0 + 1.0, floats(None, 8))
    assert found.flops_share is None
    assert str(found) == "1 engine, 100 % of operations"


def test_nothing_at_all_is_no_division() -> None:
    empty = Coverage(engines=0, nodes_in_largest=0, operations=0, operations_in_engines=0, flops=0, flops_in_engines=0,
                     left_out=())
    assert (empty.share, empty.flops_share, str(empty)) == (0.0, None, "0 engines, 0 % of operations")


def test_a_signature_of_which_nothing_is_taken_is_refused_with_the_reasons(tmp_path: Path) -> None:
    model = save(tmp_path / "model", tf.Module(),
                 serving_default=(lambda x: {"y": tf.math.lgamma(tf.math.digamma(x))}, [floats(None)]))
    with pytest.raises(Unsupported) as caught:
        convert(signature(model), "fp32", "p", keep_variables=False)
    assert str(caught.value).startswith("TensorRT takes nothing of it: ")
    assert "Lgamma x1 (TensorRT's converter does not know it)" in str(caught.value)


def test_a_signature_that_computes_nothing_is_refused(tmp_path: Path) -> None:
    module = tf.Module()
    module.weight = variable(3)
    model = save(tmp_path / "model", module, serving_default=(lambda: {"y": module.weight * 2.0}, []))
    with pytest.raises(Unsupported, match="it computes nothing"):
        convert(signature(model), "fp32", "p", keep_variables=False)


# --- Listening ---


def say(text: str) -> None:
    """As C++ does: past Python's own stream."""
    os.write(2, text.encode())


@pytest.mark.parametrize("before", [None, "0"])
def test_what_is_said_is_heard_and_passed_on_and_all_is_as_before(before: str | None, capfd: Any,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    if before is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, before)
    where = os.fstat(2).st_ino
    with coverage.reporting() as listener:
        assert os.environ[VARIABLE] == "1"
        assert os.fstat(2).st_ino != where
        say("the report, \xfc\n")
    assert listener.text == "the report, \xfc\n"
    assert os.environ.get(VARIABLE) == before
    assert os.fstat(2).st_ino == where
    say("and later\n")
    assert capfd.readouterr().err == "the report, \xfc\nand later\n"
    assert listener.text == "the report, \xfc\n"


def test_an_exception_leaves_nothing_behind(capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    where, open_before = os.fstat(2).st_ino, len(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError), coverage.reporting():
        say("halfway\n")
        raise ZeroDivisionError
    assert VARIABLE not in os.environ
    assert os.fstat(2).st_ino == where
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert capfd.readouterr().err == "halfway\n"


def test_much_is_heard_whole(capfd: Any) -> None:
    with coverage.reporting() as listener:
        for _ in range(1000):
            say("x" * 999 + "\n")
    assert len(listener.text) == 1_000_000
    assert len(capfd.readouterr().err) == 1_000_000


def test_what_python_says_is_heard_in_its_place(capfd: Any) -> None:
    with coverage.reporting() as listener:
        say("first\n")
        print("second", file=sys.stderr, flush=True)
    del capfd
    assert listener.text.startswith("first\n")
