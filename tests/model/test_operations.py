"""What each signature really runs: its own operations, loop bodies included, and nobody else's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import ROOT
from trt_pipeline.model import saved_model
from trt_pipeline.model.operations import Operation, blockers, counts, reachable


def operations(model: str, signature: str) -> list[Operation]:
    return reachable(saved_model.read_meta_graph(ROOT / "models" / model / "1"), signature)


def test_a_signature_reaches_its_own_operations_only() -> None:
    assert counts(operations("demo", "serving_default")) == {
        "AddV2": 3, "Conv2D": 2, "Relu": 2, "Reshape": 1, "MatMul": 1, "Softmax": 1}
    assert counts(operations("demo", "lookup")) == {"HashTableV2": 1, "LookupTableFindV2": 1}


def test_the_most_frequent_comes_first() -> None:
    found = list(counts(operations("enko", "translate")).values())
    assert found == sorted(found, reverse=True)


def test_loop_bodies_are_reached() -> None:
    found = operations("enko", "translate")
    loops = [o for o in found if o.op == "While"]
    assert len(loops) == 1
    body = [o for o in found if "while_body" in o.name]
    assert {"TopKV2", "LogSoftmax", "BatchMatMulV2"} <= {o.op for o in body}
    assert all("/" in o.name for o in body)


def test_strings_are_marked() -> None:
    marked = {o.op for o in operations("demo", "classify") if o.string}
    assert {"ParseExampleV2", "LookupTableFindV2"} <= marked
    assert not any(o.string and o.op in ("Conv2D", "MatMul") for o in operations("demo", "classify"))
    assert not any(o.string for o in operations("demo", "serving_default")
                   if o.op not in ("SaveV2", "RestoreV2", "Const", "Identity"))


def node(name: str, op: str, *inputs: str, calls: str = "") -> Any:
    from tensorflow.core.framework import node_def_pb2

    made = node_def_pb2.NodeDef(name=name, op=op, input=inputs)
    if calls:
        made.attr["f"].func.name = calls
    return made


@pytest.fixture
def meta_graph() -> Any:
    """main: y <- Mul <- (x, control side); a Cos that nothing asks for; ``recursive`` calls itself."""
    from tensorflow.core.protobuf import meta_graph_pb2

    made = meta_graph_pb2.MetaGraphDef()
    made.graph_def.node.extend([
        node("x", "Placeholder"), node("side", "Sin"), node("unused", "Cos", "x"),
        node("call", "PartitionedCall", "x", calls="recursive"),
        node("y", "Mul", "x:0", "call:1", "^side")])
    function = made.graph_def.library.function.add()
    function.signature.name = "recursive"
    function.node_def.extend([node("t", "Tanh"), node("again", "PartitionedCall", "t:y:0", calls="recursive")])
    other = made.graph_def.library.function.add()
    other.signature.name = "uncalled"
    other.node_def.extend([node("e", "Exp")])
    made.signature_def["serve"].outputs["y"].name = "y:0"
    return made


def test_control_inputs_count_and_dead_ends_do_not(meta_graph: Any) -> None:
    assert counts(reachable(meta_graph, "serve")) == {"Mul": 1, "Sin": 1, "Tanh": 1}


def test_a_function_that_calls_itself_is_read_once(meta_graph: Any) -> None:
    assert sorted(o.name for o in reachable(meta_graph, "serve")) == [
        "call", "recursive/again", "recursive/t", "side", "x", "y"]


def test_functions_in_a_list_are_reached(meta_graph: Any) -> None:
    """`Case` names its branches in a list."""
    meta_graph.graph_def.node[1].attr["branches"].list.func.add().name = "uncalled"
    assert "Exp" in counts(reachable(meta_graph, "serve"))


def test_blockers_are_grouped_by_operation_and_reason() -> None:
    def operation(op: str, name: str) -> Operation:
        return Operation(op=op, name=name, string=False)

    found = blockers([(operation("Find", "b"), "tables"), (operation("Cast", "c"), "strings"),
                      (operation("Find", "a"), "tables"), (operation("Find", "d"), "strings")])
    assert [str(b) for b in found] == ["Cast x1 (strings; e.g. c)", "Find x1 (strings; e.g. d)",
                                       "Find x2 (tables; e.g. b)"]
    assert blockers([]) == []
