"""The two nets that are made to fail, and what the search makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from island_nets import Net, looping_net, outlier_net, overflowing_net

from trt_pipeline.islands import rank
from trt_pipeline.islands.emulate import Emulation, computing_nodes
from trt_pipeline.islands.find import find
from trt_pipeline.islands.gate import SearchGate
from trt_pipeline.islands.islands import Islands, SignatureIslands
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.parity.tolerance import Close, Gate, OutputGate


def found(net: Net, precision: str, nodes: tuple[str, ...], gate: Gate | None = None,
          budget: int = 40) -> tuple[Islands, SignatureIslands]:
    progress: list[tuple[int, int]] = []
    islands = find(net.folder, ("serve",), f"any/{precision}", precision,
                   {"serve": LowPrecision(precision=precision, nodes=nodes)}, net.ranges_file(),
                   {"serve": net.samples}, net.contract, gate or Gate(), {"serve": {"y": 0.0}}, budget=budget,
                   progress=lambda done, total: progress.append((done, total)))
    assert all(done <= total for done, total in progress) and progress
    return islands, islands.signatures["serve"]


def judged(net: Net, precision: str, nodes: tuple[str, ...], raised: tuple[str, ...]) -> bool:
    emulation = Emulation(net.graph, net.ranges, precision, nodes)
    gate = SearchGate(net.contract.signature("serve"), Gate(), precision, {}, [{"x": net.x}],
                        lambda feeds: {"y": net.run()})
    return gate.judge(lambda feeds: emulation(feeds, raised)).passed


def test_the_layer_after_an_outlier_channel_is_raised_at_int8(tmp_path: Path) -> None:
    net = outlier_net(tmp_path)
    products = tuple(net.nodes("MatMul"))
    islands, one = found(net, "int8", products)
    culprit = next(node for node in products if "layer_4" in node)
    assert one.passed and culprit in one.nodes and len(one.nodes) <= 4
    assert one.of == 8 and one.before > 1 and one.after <= 0.8
    assert islands.model_digest == "d1" and islands.candidate == "any/int8"
    assert not judged(net, "int8", products, ()) and judged(net, "int8", products, one.nodes)


def test_a_layer_normalization_of_large_values_is_raised_at_fp16(tmp_path: Path) -> None:
    net = overflowing_net(tmp_path)
    nodes = computing_nodes(net.graph)
    largest = {node: max(map(abs, net.ranges.extents[f"{node}:0"])) for node in nodes}
    culprits = {node for node in nodes if largest[node] > 65504}
    _, one = found(net, "fp16", nodes)
    assert culprits and culprits <= set(one.nodes)
    assert one.passed and len(one.nodes) <= len(culprits) + 3 < len(nodes)
    assert not judged(net, "fp16", nodes, ()) and judged(net, "fp16", nodes, one.nodes)


def test_what_fp16_cannot_hold_is_known_from_the_extents(tmp_path: Path) -> None:
    net = overflowing_net(tmp_path)
    nodes = computing_nodes(net.graph)
    beyond = rank.out_of_reach(net.graph, net.ranges, "fp16", nodes)
    assert any("squares" in node for node in beyond) and not any("last" in node for node in beyond)
    assert rank.out_of_reach(net.graph, net.ranges, "bf16", nodes) == ()
    assert rank.out_of_reach(net.graph, net.ranges, "int8", nodes) == ()


def test_a_gate_that_nothing_meets_is_given_up_early(tmp_path: Path) -> None:
    net = outlier_net(tmp_path)
    gate = Gate(outputs={"y": OutputGate(close=Close(cosine=1.0, snr_db=400))})
    islands, one = found(net, "int8", tuple(net.nodes("MatMul")), gate)
    assert not one.passed and not islands.passed and [point.raised for point in one.curve] == [0, 8]


def test_raising_everything_is_no_answer(tmp_path: Path) -> None:
    net = looping_net(tmp_path)
    [node] = net.nodes("MatMul")
    _, one = found(net, "int8", (node,), Gate(outputs={"y": OutputGate(close=Close(scaled=1e-4))}))
    assert not one.passed and one.nodes == () and one.order == (node,)
    assert [point.passed for point in one.curve] == [False, True], "in float32, inside the loop too, it passes"


def test_signatures_without_nodes_or_ranges_are_left_out(tmp_path: Path) -> None:
    net = outlier_net(tmp_path)
    islands = find(net.folder, ("serve",), "any/int8", "int8", {"serve": LowPrecision(precision="int8", nodes=())},
                   net.ranges_file(), {"serve": net.samples}, net.contract, Gate(), {}, budget=9)
    assert islands.signatures == {} and islands.passed


def test_a_node_that_the_graph_lacks(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no node nowhere"):
        found(outlier_net(tmp_path), "int8", ("nowhere",))


def test_the_emulated_reference_is_the_original(tmp_path: Path) -> None:
    net = overflowing_net(tmp_path)
    nodes = computing_nodes(net.graph)
    for precision in ("fp16", "bf16"):
        emulation = Emulation(net.graph, net.ranges, precision, nodes)
        np.testing.assert_allclose(emulation({"x": net.x}, frozenset(nodes))["y"], net.run(), atol=1e-6)


def test_halves_are_about_every_node_that_computes_save_those_that_were_kept(tmp_path: Path) -> None:
    net = overflowing_net(tmp_path)
    nodes = computing_nodes(net.graph)
    _, all_of_them = found(net, "fp16", tuple(net.nodes("MatMul")))
    assert all_of_them.of == len(nodes)
    kept = {node: "it overflows" for node in all_of_them.nodes}
    islands = find(net.folder, ("serve",), "any/fp16", "fp16",
                   {"serve": LowPrecision(precision="fp16", nodes=tuple(net.nodes("MatMul")), kept=kept)},
                   net.ranges_file(), {"serve": net.samples}, net.contract, Gate(), {}, budget=9)
    assert islands.signatures["serve"].of == len(nodes) - len(kept)
    assert islands.passed and islands.raised == {}
