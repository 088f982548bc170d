"""Constants of a loop move into its body and out of its state; everything else stays, and so do the answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tests.conversion.tftrt.builders import Graph, floats, functions, nodes, numbers, run
from trt_pipeline.conversion.loops import inline_constants

X = numbers(3, 4, seed=1)
WEIGHT, OTHER = numbers(4, 4, seed=2, scale=0.5), numbers(4, 4, seed=3, scale=0.5)
_LOOPS = ("While", "StatelessWhile")


def readied(graph: Graph, *values: np.ndarray) -> Any:
    """The graph with its constants inlined, after the proof that the answers are the same to the bit."""
    before = graph.graph_def.SerializeToString(deterministic=True)
    made = inline_constants(graph.graph_def, [*graph.inputs, *graph.outputs])
    assert graph.graph_def.SerializeToString(deterministic=True) == before, "it works on a copy"
    for expected, got in zip(graph.run(*values), graph.run(*values, graph_def=made), strict=True):
        np.testing.assert_array_equal(got, expected)
    return made


def state(graph_def: Any, dtype: tf.DType = tf.float32) -> list[int]:
    """How many variables of this type each loop hands round; TensorFlow adds integers of its own."""
    return [list(loop.attr["T"].list.type).count(dtype.as_datatype_enum) for loop in nodes(graph_def, *_LOOPS)]


def body_of(graph_def: Any, number: int = 0) -> Any:
    return functions(graph_def)[nodes(graph_def, *_LOOPS)[number].attr["body"].func.name]


def held(function: Any) -> list[np.ndarray]:
    """The constants in a body."""
    return [tf.make_ndarray(node.attr["value"].tensor) for node in function.node_def if node.op == "Const"]


def holds(function: Any, value: np.ndarray) -> bool:
    return any(np.array_equal(found, value) for found in held(function))


def repeated(step: Any, times: Any = 3) -> Any:
    """``step`` applied to x again and again."""
    return lambda x: tf.while_loop(lambda i, h: i < times, lambda i, h: (i + 1, step(h)), [0, x])[1]


def one_weight() -> Graph:
    def call(x: Any) -> Any:
        weight = tf.constant(WEIGHT)
        return repeated(lambda h: tf.tanh(h @ weight))(x)

    return Graph(call, floats(None, 4))


def test_a_weight_moves_into_the_body_and_out_of_the_state() -> None:
    graph = one_weight()
    assert not holds(body_of(graph.graph_def), WEIGHT)
    made = readied(graph, X)
    assert holds(body_of(made), WEIGHT)
    assert (state(graph.graph_def), state(made)) == ([2], [1])
    product = next(node for node in body_of(made).node_def if node.op == "MatMul")
    constants = {node.name for node in body_of(made).node_def if node.op == "Const"}
    assert product.input[1].split(":")[0] in constants, "read directly, with no Identity between"


def test_identities_on_the_way_are_gone_through_and_gone() -> None:
    """Freezing leaves one before the loop and one inside, where it would keep the weight out of a segment."""

    def call(x: Any) -> Any:
        weight = tf.identity(tf.identity(tf.constant(WEIGHT)))
        return repeated(lambda h: tf.tanh(h @ tf.identity(tf.identity(weight))))(x)

    body = body_of(readied(Graph(call, floats(None, 4)), X))
    product = next(node for node in body.node_def if node.op == "MatMul")
    assert {node.name: node.op for node in body.node_def}[product.input[1].split(":")[0]] == "Const"


def test_the_body_learns_the_shapes_of_its_arguments() -> None:
    body = body_of(readied(one_weight(), X))
    known = {argument.name: body.arg_attr[number].attr["_output_shapes"].list.shape
             for number, argument in enumerate(body.signature.input_arg)}
    sizes = [[dimension.size for dimension in shapes[0].dim] for shapes in known.values() if shapes]
    assert [-1, 4] in sizes


def test_a_weight_of_a_loop_in_a_loop_moves_all_the_way() -> None:
    def call(x: Any) -> Any:
        weight = tf.constant(WEIGHT)
        return repeated(repeated(lambda h: tf.tanh(h @ weight), 2))(x)

    graph = Graph(call, floats(None, 4))
    made = readied(graph, X)
    assert [holds(body_of(made, n), WEIGHT) for n in range(2)].count(True) >= 1
    product = next(f for f in made.library.function if any(node.op == "MatMul" for node in f.node_def))
    assert holds(product, WEIGHT)
    assert all(after < before for before, after in zip(state(graph.graph_def), state(made), strict=True))


def test_a_constant_made_in_a_body_moves_into_the_loop_inside() -> None:
    def call(x: Any) -> Any:
        def step(h: Any) -> Any:
            weight = tf.constant(WEIGHT)
            return repeated(lambda g: tf.tanh(g @ weight), 2)(h)

        return repeated(step)(x)

    made = readied(Graph(call, floats(None, 4)), X)
    assert holds(next(f for f in made.library.function if any(n.op == "MatMul" for n in f.node_def)), WEIGHT)


def test_a_loop_inside_a_branch_is_found() -> None:
    def call(x: Any) -> Any:
        def branch() -> Any:
            weight = tf.constant(WEIGHT)
            return repeated(lambda h: tf.tanh(h @ weight))(x)

        return tf.cond(tf.reduce_sum(x) > 0, branch, lambda: x - 1.0)

    graph = Graph(call, floats(None, 4))
    assert not holds(body_of(graph.graph_def), WEIGHT)
    assert holds(body_of(readied(graph, X)), WEIGHT)
    for x in (np.abs(X), -np.abs(X)):
        readied(graph, x)


def test_what_the_condition_reads_stays_in_the_state() -> None:
    def call(x: Any) -> Any:
        times, weight = tf.constant(3), tf.constant(WEIGHT)
        return tf.while_loop(lambda i, h: i < times, lambda i, h: (i + 1, tf.tanh(h @ weight)), [0, x])[1]

    graph = Graph(call, floats(None, 4))
    made = readied(graph, X)
    assert (state(graph.graph_def), state(made)) == ([2], [1])
    # The loop's own counter, i and the limit that the condition reads; not the largest number of rounds, unread.
    assert (state(graph.graph_def, tf.int32), state(made, tf.int32)) == ([4], [3])
    loop = nodes(made, *_LOOPS)[0]
    condition = functions(made)[loop.attr["cond"].func.name]
    assert len(condition.signature.input_arg) == len(body_of(made).signature.input_arg) == len(loop.input)


def four_variables(x: Any, weight: Any, step: Any) -> Any:
    """A counter, a matrix that never changes, and two that do: (matrix, first, second) after the loop."""

    def body(i: Any, matrix: Any, first: Any, second: Any) -> Any:
        return i + 1, matrix, tf.tanh(step(first) @ matrix), second + first

    return tf.while_loop(lambda i, *_: i < 3, body, [0, weight, x, 2.0 * x])[1:]


def test_a_variable_that_never_changes_but_is_read_afterwards_stays() -> None:
    def call(x: Any) -> Any:
        matrix, first, second = four_variables(x, tf.constant(WEIGHT), tf.identity)
        return first, second, matrix @ tf.transpose(matrix)

    graph = Graph(call, floats(None, 4))
    made = readied(graph, X)
    assert state(made) == state(graph.graph_def) == [3]
    assert holds(body_of(made), WEIGHT)


def test_readers_follow_when_the_variables_before_theirs_are_dropped() -> None:
    def call(x: Any) -> Any:
        other = tf.constant(OTHER)
        _, first, second = four_variables(x, tf.constant(WEIGHT), lambda h: h @ other)
        return second - 1.0, first * 3.0, second + first

    graph = Graph(call, floats(None, 4))
    made = readied(graph, X)
    assert (state(graph.graph_def), state(made)) == ([4], [2])


def test_readers_inside_a_function_follow_too() -> None:
    """In a body, outputs are called 'loop:output:2', and the body's own results may be among the readers."""

    def call(x: Any) -> Any:
        def step(h: Any) -> Any:
            other = tf.constant(OTHER)
            _, first, second = four_variables(h, tf.constant(WEIGHT), lambda g: g @ other)
            return tf.identity(first), second

        def body(i: Any, h: Any, last: Any) -> Any:
            return i + 1, step(h)[0], last + step(tf.tanh(last))[1]

        return tf.while_loop(lambda i, *_: i < 2, body, [0, x, x])[1:]

    graph = Graph(call, floats(None, 4))
    made = readied(graph, X)
    assert (sum(state(graph.graph_def)), sum(state(made))) == (10, 6)
    # The same with nothing between the loops inside and what the body returns.
    direct = 0
    for function in graph.graph_def.library.function:
        by_name = {node.name: node for node in function.node_def}
        loops = {node.name for node in function.node_def if node.op in _LOOPS}
        for key, returned in list(function.ret.items()):
            source = returned
            while source.split(":")[0] in by_name and by_name[source.split(":")[0]].op == "Identity":
                source = by_name[source.split(":")[0]].input[0]
            direct += source.split(":")[0] in loops
            function.ret[key] = source
    assert direct
    made = readied(graph, X)
    assert sum(state(made)) == 6


def test_attributes_of_arguments_move_with_them() -> None:
    made = readied(one_weight(), X)
    body = body_of(made)
    assert all(number < len(body.signature.input_arg) for number in body.arg_attr)
    for number, argument in enumerate(body.signature.input_arg):
        shapes = body.arg_attr[number].attr["_output_shapes"].list.shape
        if argument.type == tf.int32.as_datatype_enum and shapes:
            assert len(shapes[0].dim) == 0, f"{argument.name} is a counter"


def test_a_table_in_the_body_is_gathered_from_as_before() -> None:
    table = numbers(7, 4, seed=5)

    def call(x: Any) -> Any:
        rows = tf.constant(table)
        return tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(h + tf.gather(rows, i))), [0, x])[1]

    made = readied(Graph(call, floats(None, 4)), X)
    assert holds(body_of(made), table)


def test_a_loop_without_constants_keeps_its_state_and_its_body() -> None:
    graph = Graph(lambda x: tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(h) + h), [0, x])[1],
                  floats(None, 4))
    made = readied(graph, X)
    kept = [node.name for node in body_of(made).node_def if node.op not in ("Const", "Identity")]
    assert kept == [node.name for node in body_of(graph.graph_def).node_def if node.op not in ("Const", "Identity")]
    assert len(held(body_of(made))) <= len(held(body_of(graph.graph_def))) + 1  # its limit may move in


def test_a_variable_that_takes_another_s_place_stays() -> None:
    """Neither of two matrices that swap places is the same all the time."""

    def call(x: Any) -> Any:
        def body(i: Any, a: Any, b: Any, h: Any) -> Any:
            return i + 1, b, a, tf.tanh(h @ a)

        return tf.while_loop(lambda i, *_: i < 3, body, [0, tf.constant(WEIGHT), tf.constant(OTHER), x])[3]

    graph = Graph(call, floats(None, 4))
    made = readied(graph, X)
    assert not holds(body_of(made), WEIGHT)
    assert not holds(body_of(made), OTHER)


def test_an_input_that_is_no_constant_stays_a_variable() -> None:
    graph = Graph(lambda x, w: repeated(lambda h: tf.tanh(h @ w))(x), floats(None, 4), floats(4, 4, name="w"))
    made = readied(graph, X, WEIGHT)
    assert state(made) == state(graph.graph_def) == [2]
    assert [list(node.input) for node in body_of(made).node_def if node.op == "MatMul"] == [
        list(node.input) for node in body_of(graph.graph_def).node_def if node.op == "MatMul"]


def test_a_body_that_two_loops_share_is_left_alone() -> None:
    graph = one_weight()
    twice, outputs = with_a_second_loop(graph)
    made = inline_constants(twice, [*graph.inputs, *outputs])
    assert state(made) == state(twice)
    assert not holds(body_of(made), WEIGHT)
    for expected, got in zip(run(twice, {graph.inputs[0]: X}, outputs), run(made, {graph.inputs[0]: X}, outputs),
                             strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_condition_that_two_loops_share_keeps_its_arguments() -> None:
    graph = one_weight()
    twice, outputs = with_a_second_loop(graph)
    again = next(loop for loop in nodes(twice, *_LOOPS) if loop.name.endswith("_again"))
    copy = twice.library.function.add()
    copy.CopyFrom(functions(twice)[again.attr["body"].func.name])
    copy.signature.name = again.attr["body"].func.name = f"{copy.signature.name}_again"
    made = inline_constants(twice, [*graph.inputs, *outputs])
    assert all(holds(body_of(made, number), WEIGHT) for number in range(2))
    for expected, got in zip(run(twice, {graph.inputs[0]: X}, outputs), run(made, {graph.inputs[0]: X}, outputs),
                             strict=True):
        np.testing.assert_array_equal(got, expected)


def test_the_bodies_inside_a_shared_body_get_their_constants_once() -> None:
    """A function with a loop in a loop that the model calls twice: both calls, inlined, share the outer body."""

    def call(x: Any) -> Any:
        def step(h: Any) -> Any:
            weight = tf.constant(WEIGHT)
            return repeated(lambda g: tf.tanh(g @ weight), 2)(h)

        return repeated(step)(x)

    graph = Graph(call, floats(None, 4))
    twice, outputs = with_a_second_loop(graph)
    made = inline_constants(twice, [*graph.inputs, *outputs])
    for function in made.library.function:
        names = [node.name for node in function.node_def]
        assert sorted(set(names)) == sorted(names), function.signature.name
    for expected, got in zip(run(twice, {graph.inputs[0]: X}, outputs), run(made, {graph.inputs[0]: X}, outputs),
                             strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_shared_body_is_told_no_shape_that_one_of_its_loops_does_not_have() -> None:
    """The pass writes these shapes on the engine, which then takes no others."""
    graph = Graph(repeated(lambda h: h * tf.cast(tf.shape(h)[0], tf.float32)), floats(None, 4))
    twice, outputs = with_a_second_loop(graph)
    for loop, rows in zip(nodes(twice, *_LOOPS), (3, 5), strict=True):
        for shape in loop.attr["output_shapes"].list.shape:
            for dimension in shape.dim[:1]:
                dimension.size = rows
    body = body_of(inline_constants(twice, [*graph.inputs, *outputs]))
    told = {shape.dim[0].size for entry in body.arg_attr.values()
            for shape in entry.attr["_output_shapes"].list.shape if shape.dim}
    assert not told & {3, 5}


def test_an_output_that_is_the_loop_s_own_keeps_its_name() -> None:
    """Signatures from TensorFlow 1 may name 'while:3' itself, with no Identity behind it."""
    graph = one_weight()
    loop = nodes(graph.graph_def, *_LOOPS)[0]
    result = f"{loop.name}:{list(loop.attr['T'].list.type).index(tf.float32.as_datatype_enum)}"
    made = inline_constants(graph.graph_def, [*graph.inputs, result])
    feeds = {graph.inputs[0]: X}
    np.testing.assert_array_equal(run(made, feeds, [result])[0], run(graph.graph_def, feeds, [result])[0])


def with_a_second_loop(graph: Graph) -> tuple[Any, list[str]]:
    """The graph with its loop and what reads it once more, and both outputs: as inlining a function twice does."""
    twice = type(graph.graph_def)()
    twice.CopyFrom(graph.graph_def)
    loop = nodes(twice, *_LOOPS)[0].name
    later = {loop}
    for node in graph.graph_def.node:
        if any(source.lstrip("^").split(":")[0] in later for source in node.input):
            later.add(node.name)
    for node in [node for node in graph.graph_def.node if node.name in later]:
        copy = twice.node.add()
        copy.CopyFrom(node)
        copy.name += "_again"
        copy.input[:] = [_again(source, later) for source in copy.input]
    name, _, index = graph.outputs[0].partition(":")
    return twice, [graph.outputs[0], f"{name}_again:{index}"]


def _again(source: str, renamed: set[str]) -> str:
    name, colon, index = source.partition(":")
    return f"{name}_again{colon}{index}" if name.lstrip("^") in renamed else source
