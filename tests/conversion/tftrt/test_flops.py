"""Floating-point operations against numbers worked out by hand: a multiplication and its addition are two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from tests.conversion.tftrt.builders import Graph, floats
from trt_pipeline.conversion.tftrt.flops import count


def work(call: Callable[..., Any], *shapes: tuple[int | None, ...]) -> float:
    specs = [floats(*shape, name=f"x{number}") for number, shape in enumerate(shapes)]
    inside, total = count(Graph(call, *specs).graph_def, set())
    assert inside == 0
    return total


def matmul(**flipped: bool) -> Callable[..., Any]:
    """As tf.matmul on rank 2, which is MatMul; on higher ranks BatchMatMul."""
    return lambda a, b: tf.matmul(a, b, **flipped)


CONV = tf.nn.conv2d


@pytest.mark.parametrize(("call", "shapes", "expected"), [
    (matmul(), [(3, 4), (4, 5)], 2 * 3 * 4 * 5),
    (matmul(transpose_b=True), [(3, 4), (5, 4)], 2 * 3 * 4 * 5),
    (matmul(transpose_a=True), [(4, 3), (4, 5)], 2 * 3 * 4 * 5),
    (matmul(), [(None, 4), (4, 5)], 2 * 4 * 5),
    (matmul(), [(2, 6, 3, 4), (2, 6, 4, 5)], 2 * 12 * 3 * 4 * 5),
    (matmul(adjoint_b=True), [(2, 6, 3, 4), (2, 6, 5, 4)], 2 * 12 * 3 * 4 * 5),
    (matmul(adjoint_a=True), [(7, 4, 3), (7, 4, 5)], 2 * 7 * 3 * 4 * 5),
    (matmul(), [(None, None, 4), (4, 5)], 2 * 4 * 5),
    (matmul(), [(3, None), (4, 5)], 2 * 3 * 4 * 5),
    (matmul(transpose_a=True, transpose_b=True), [(None, 3), (5, 4)], 2 * 3 * 4 * 5),
], ids=["plain", "transposed b", "transposed a", "free rows", "batched", "batched adjoint b", "batched adjoint a",
        "free rank 3", "length known on the right", "the same, transposed"])
def test_products(call: Any, shapes: list[tuple[int | None, ...]], expected: int) -> None:
    assert work(call, *shapes) == expected


@pytest.mark.parametrize(("call", "shapes", "expected"), [
    (lambda x, k: CONV(x, k, 1, "SAME"), [(None, 8, 10, 3), (3, 5, 3, 16)], 2 * (8 * 10) * (3 * 5 * 3 * 16)),
    (lambda x, k: CONV(x, k, 1, "VALID"), [(None, 8, 10, 3), (3, 5, 3, 16)], 2 * (6 * 6) * (3 * 5 * 3 * 16)),
    (lambda x, k: CONV(x, k, [2, 3], "SAME"), [(None, 8, 10, 3), (3, 5, 3, 16)], 2 * (4 * 4) * (3 * 5 * 3 * 16)),
    (lambda x, k: CONV(x, k, 2, "VALID"), [(None, 8, 10, 3), (3, 5, 3, 16)], 2 * (3 * 3) * (3 * 5 * 3 * 16)),
    (lambda x, k: CONV(x, k, 1, "SAME", data_format="NCHW"), [(None, 3, 8, 10), (3, 5, 3, 16)],
     2 * (8 * 10) * (3 * 5 * 3 * 16)),
    (lambda x, k: CONV(x, k, 1, "SAME"), [(None, 8, 8, 6), (3, 3, 2, 12)], 2 * 64 * (3 * 3 * 2 * 12)),
    (lambda x, k: tf.nn.depthwise_conv2d(x, k, [1, 1, 1, 1], "SAME"), [(None, 8, 10, 6), (3, 3, 6, 2)],
     2 * (8 * 10) * (3 * 3 * 6 * 2)),
    (lambda x, k: tf.nn.conv2d_transpose(x, k, [1, 8, 10, 3], 2, "SAME"), [(1, 4, 5, 16), (3, 3, 3, 16)],
     2 * (4 * 5) * (3 * 3 * 3 * 16)),
    (lambda x, k: tf.nn.conv3d(x, k, [1, 1, 1, 1, 1], "VALID"), [(None, 4, 5, 6, 2), (2, 2, 2, 2, 8)],
     2 * (3 * 4 * 5) * (2 * 2 * 2 * 2 * 8)),
], ids=["same", "valid", "strided same", "strided valid", "channels first", "grouped", "depthwise", "transposed",
        "volumes"])
def test_convolutions_of_one_sample(call: Any, shapes: list[tuple[int | None, ...]], expected: int) -> None:
    assert work(call, *shapes) == expected


@pytest.mark.parametrize(("equation", "shapes", "expected"), [
    ("ij,jk->ik", [(3, 4), (4, 5)], 2 * 3 * 4 * 5),
    ("bqhd,bkhd->bhqk", [(2, 6, 3, 4), (2, 7, 3, 4)], 2 * 2 * 6 * 7 * 3 * 4),
    ("nth,hc->ntc", [(None, None, 32), (32, 7)], 2 * 32 * 7),
    ("...ij,jk->...ik", [(3, 4), (4, 5)], 2 * 3 * 4 * 5),
])
def test_einsum(equation: str, shapes: list[tuple[int | None, ...]], expected: int) -> None:
    assert work(lambda a, b: tf.einsum(equation, a, b), *shapes) == expected


def test_letters_before_an_ellipsis_count_by_their_own_axis() -> None:
    """Read from the end, b of 'b...d' would get the size of an axis inside the ellipsis."""
    assert work(lambda a, b: tf.einsum("bi...d,bi->b...d", a, b), (3, 4, 5, 6), (3, 4)) == 2 * 3 * 4 * 5 * 6


def test_other_operations_count_nothing() -> None:
    assert work(lambda x: tf.nn.softmax(tf.nn.relu(x) * 2.0), (3, 4)) == 0


def test_a_fixed_batch_counts_in_products_and_in_convolutions_alike() -> None:
    """Were rows counted in one of them only, the share would be skewed."""
    product = work(matmul(), (8, 4), (4, 5)) / work(matmul(), (None, 4), (4, 5))
    convolution = (work(lambda x, k: CONV(x, k, 1, "SAME"), (8, 6, 6, 2), (3, 3, 2, 2))
                   / work(lambda x, k: CONV(x, k, 1, "SAME"), (None, 6, 6, 2), (3, 3, 2, 2)))
    assert product == convolution


def test_bodies_count_once_and_chosen_functions_are_told_apart() -> None:
    kernel = tf.ones([8, 8])

    def call(x: Any) -> Any:
        turned = tf.while_loop(lambda i, h: i < 5, lambda i, h: (i + 1, h @ kernel), [0, x])[1]
        return turned @ tf.ones([8, 3])

    graph_def = Graph(call, floats(4, 8)).graph_def
    body = next(node.attr["body"].func.name for node in graph_def.node if "body" in node.attr)
    assert count(graph_def, {body}) == (2 * 4 * 8 * 8, 2 * 4 * 8 * 8 + 2 * 4 * 8 * 3)
