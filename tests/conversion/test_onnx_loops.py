"""Weights leave a loop's state, everything else stays, and the answers do not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from trt_pipeline.conversion.onnx_loops import hoist_loop_constants

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
WEIGHT = np.array([[2.0, 0.5], [-1.0, 1.5]], np.float32)
X = np.array([[1.0, -2.0]], np.float32)


def value(name: str, kind: int = FLOAT, shape: Any = (None, None)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def body(nodes: list[onnx.NodeProto], states: list[tuple[str, str]], scans: list[str] | None = None,
         prefix: str = "") -> onnx.GraphProto:
    """A loop's body: ``states`` are (incoming, outgoing) names; it goes on as long as it is told to."""
    inputs = [value(f"{prefix}i", INT64, []), value(f"{prefix}c", BOOL, []), *(value(a) for a, _ in states)]
    outputs = [value(f"{prefix}c_out", BOOL, []), *(value(b) for _, b in states), *(value(s) for s in scans or [])]
    keep_on = helper.make_node("Identity", [f"{prefix}c"], [f"{prefix}c_out"])
    return helper.make_graph([keep_on, *nodes], f"{prefix}body", inputs, outputs)


def loop(graph: onnx.GraphProto, inputs: list[str], outputs: list[str], trips: str = "trips") -> onnx.NodeProto:
    return helper.make_node("Loop", [trips, "", *inputs], outputs, body=graph)


def model(nodes: list[onnx.NodeProto], outputs: list[str]) -> onnx.ModelProto:
    constants = {"trips": np.array(3, np.int64), "w": WEIGHT, "w2": WEIGHT.T.copy()}
    graph = helper.make_graph(nodes, "main", [value("x")], [value(name) for name in outputs],
                              [numpy_helper.from_array(array, name) for name, array in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answers(made: onnx.ModelProto) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(found) for found in session.run(None, {"x": X})]


def hoisted(made: onnx.ModelProto) -> int:
    """How many were hoisted, after the proof that the answers are the same."""
    before = answers(made)
    count = hoist_loop_constants(made)
    onnx.checker.check_model(made)
    for a, b in zip(before, answers(made), strict=True):
        np.testing.assert_array_equal(a, b)
    return count


def the_loop(made: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in made.graph.node if node.op_type == "Loop")


def matmul(prefix: str = "") -> onnx.NodeProto:
    return helper.make_node("MatMul", [f"{prefix}h", f"{prefix}w_in"], [f"{prefix}h_out"])


def identity(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Identity", [source], [target])


def test_a_weight_is_hoisted_and_the_state_that_changes_is_kept() -> None:
    made = model([loop(body([matmul(), identity("w_in", "w_out")], [("h", "h_out"), ("w_in", "w_out")]),
                       ["x", "w"], ["y", "w_final"])], ["y"])
    assert hoisted(made) == 1
    node = the_loop(made)
    assert (list(node.input), list(node.output)) == (["trips", "", "x"], ["y"])
    inner = node.attribute[0].g
    assert [v.name for v in inner.input] == ["i", "c", "h"]
    assert [v.name for v in inner.output] == ["c_out", "h_out"]
    assert [list(n.input) for n in inner.node if n.op_type == "MatMul"] == [["h", "w"]]
    assert "w_out" not in [name for n in inner.node for name in n.output]


def test_the_place_of_the_weight_among_the_state_does_not_matter() -> None:
    made = model([loop(body([matmul()], [("w_in", "w_in"), ("h", "h_out")]), ["w", "x"], ["w_final", "y"])], ["y"])
    assert hoisted(made) == 1
    assert (list(the_loop(made).input), list(the_loop(made).output)) == (["trips", "", "x"], ["y"])


def test_a_weight_handed_on_through_several_identities_is_hoisted() -> None:
    nodes = [matmul(), identity("w_in", "w_a"), identity("w_a", "w_b"), identity("w_b", "w_out")]
    made = model([loop(body(nodes, [("h", "h_out"), ("w_in", "w_out")]), ["x", "w"], ["y", "w_final"])], ["y"])
    assert hoisted(made) == 1


def test_state_that_changes_is_kept() -> None:
    nodes = [matmul(), helper.make_node("Add", ["w_in", "w_in"], ["w_out"])]
    made = model([loop(body(nodes, [("h", "h_out"), ("w_in", "w_out")]), ["x", "w"], ["y", "w_final"])], ["y"])
    before = made.SerializeToString(deterministic=True)
    assert hoisted(made) == 0
    assert made.SerializeToString(deterministic=True) == before


def test_states_that_change_places_are_kept() -> None:
    nodes = [matmul(), identity("w_in", "v_out"), identity("v_in", "w_out")]
    made = model([loop(body(nodes, [("h", "h_out"), ("w_in", "w_out"), ("v_in", "v_out")]), ["x", "w", "w2"],
                       ["y", "w_final", "v_final"])], ["y"])
    assert hoisted(made) == 0


@pytest.mark.parametrize("reader", ["node", "output", "inner graph"])
def test_state_that_is_read_after_the_loop_is_kept(reader: str) -> None:
    nodes = [loop(body([matmul(), identity("w_in", "w_out")], [("h", "h_out"), ("w_in", "w_out")]), ["x", "w"],
                  ["y", "w_final"])]
    outputs = ["y", "after"]
    if reader == "node":
        nodes.append(helper.make_node("MatMul", ["y", "w_final"], ["after"]))
    elif reader == "output":
        outputs = ["y", "w_final"]
    else:
        inner = body([helper.make_node("MatMul", ["n_h", "w_final"], ["n_out"])], [("n_h", "n_out")], prefix="n_")
        nodes.append(loop(inner, ["y"], ["after"]))
    assert hoisted(model(nodes, outputs)) == 0


def test_scan_outputs_are_kept_in_their_order() -> None:
    nodes = [matmul(), identity("w_in", "w_out"), identity("h_out", "scan_a"),
             helper.make_node("Neg", ["h_out"], ["scan_b"])]
    graph = body(nodes, [("w_in", "w_out"), ("h", "h_out")], ["scan_a", "scan_b"])
    made = model([loop(graph, ["w", "x"], ["w_final", "y", "all_a", "all_b"])], ["y", "all_a", "all_b"])
    for name in ("all_a", "all_b"):
        next(o for o in made.graph.output if o.name == name).type.tensor_type.shape.dim.add()
    assert hoisted(made) == 1
    assert list(the_loop(made).output) == ["y", "all_a", "all_b"]
    assert [a.shape for a in answers(made)] == [(1, 2), (3, 1, 2), (3, 1, 2)]


def test_a_scan_of_the_weight_itself_still_has_it() -> None:
    nodes = [matmul(), identity("w_in", "w_out"), identity("w_in", "scan")]
    graph = body(nodes, [("h", "h_out"), ("w_in", "w_out")], ["scan"])
    made = model([loop(graph, ["x", "w"], ["y", "w_final", "weights"])], ["y", "weights"])
    made.graph.output[1].type.tensor_type.shape.dim.add()
    assert hoisted(made) == 1


def test_a_state_that_takes_the_weight_over_directly_still_has_it() -> None:
    """The body's output is the weight's own name, with no identity in between: ONNX allows it."""
    made = model([loop(body([matmul()], [("h", "h_out"), ("w_in", "w_in"), ("v_in", "w_in")]), ["x", "w", "w2"],
                       ["y", "w_final", "v_final"])], ["y", "v_final"])
    assert hoisted(made) in (0, 1)


def test_weights_of_nested_loops_leave_both() -> None:
    inner = loop(body([helper.make_node("MatMul", ["n_h", "n_w"], ["n_out"])], [("n_h", "n_out"), ("n_w", "n_w")],
                      prefix="n_"), ["h", "w_in"], ["h_out", "w_inner"])
    made = model([loop(body([inner, identity("w_in", "w_out")], [("h", "h_out"), ("w_in", "w_out")]), ["x", "w"],
                       ["y", "w_final"])], ["y"])
    assert hoisted(made) == 2
    inner_loop = next(n for n in the_loop(made).attribute[0].g.node if n.op_type == "Loop")
    assert list(inner_loop.input) == ["trips", "", "h"]
    assert [list(n.input) for n in inner_loop.attribute[0].g.node if n.op_type == "MatMul"] == [["n_h", "w"]]


def test_an_inner_loop_that_hands_the_outer_state_on_changed_keeps_it() -> None:
    inner = loop(body([helper.make_node("Neg", ["n_w"], ["n_w_out"])], [("n_w", "n_w_out")], prefix="n_"),
                 ["w_in"], ["w_out"])
    made = model([loop(body([matmul(), inner], [("h", "h_out"), ("w_in", "w_out")]), ["x", "w"], ["y", "w_final"])],
                 ["y"])
    assert hoisted(made) == 0


def test_a_loop_inside_a_branch_is_found() -> None:
    inside = loop(body([matmul(), identity("w_in", "w_out")], [("h", "h_out"), ("w_in", "w_out")]), ["x", "w"],
                  ["branch_y", "w_final"])
    then = helper.make_graph([inside], "then", [], [value("branch_y")])
    other = helper.make_graph([identity("x", "other_y")], "else", [], [value("other_y")])
    condition = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    made = model([condition, helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other)], ["y"])
    assert hoisted(made) == 1


def test_a_second_pass_finds_nothing_more() -> None:
    made = model([loop(body([matmul(), identity("w_in", "w_out")], [("h", "h_out"), ("w_in", "w_out")]), ["x", "w"],
                       ["y", "w_final"])], ["y"])
    assert [hoisted(made), hoisted(made)] == [1, 0]


def test_a_model_without_loops_is_left_alone() -> None:
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], ["y"])
    assert hoisted(made) == 0
