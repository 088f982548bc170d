from __future__ import annotations

import itertools

import numpy as np
import pytest

from trt_pipeline.islands.gate import Judged
from trt_pipeline.islands.rank import rank
from trt_pipeline.islands.search import search


class World:
    """Nodes whose errors add up, save for pairs that add something when just one of them is raised."""

    def __init__(self, costs: dict[str, float], alone: dict[tuple[str, str], float] | None = None) -> None:
        self.costs, self.alone = costs, alone or {}
        self.tried: list[frozenset[str]] = []

    def error(self, raised: frozenset[str]) -> float:
        low = sum(cost for node, cost in self.costs.items() if node not in raised)
        return low + sum(extra for pair, extra in self.alone.items() if len(raised.intersection(pair)) == 1)

    def __call__(self, raised: frozenset[str]) -> Judged:
        self.tried.append(raised)
        return Judged(passed=self.error(raised) <= 1, distance=self.error(raised))

    def ranked(self) -> list[str]:
        return sorted(self.costs, key=lambda node: -self.costs[node])


def names(count: int) -> list[str]:
    return [f"n{number}" for number in range(count)]


def test_nothing_is_raised_where_the_gate_is_met_without() -> None:
    world = World(dict.fromkeys(names(5), 0.1))
    found = search(world.ranked(), world, budget=20)
    assert found.passed and found.raised == () and len(world.tried) == 1


def test_that_nothing_helps_is_known_after_two_evaluations() -> None:
    found = search(names(50), lambda raised: Judged(passed=False, distance=9 - len(raised) / 50), budget=40)
    assert not found.passed
    assert [(point.raised, point.passed) for point in found.curve] == [(0, False), (50, False)]
    assert found.before == 9 and found.after == 8


def test_no_nodes_at_all() -> None:
    assert not search([], lambda raised: Judged(passed=False, distance=2.0), budget=5).passed


@pytest.mark.parametrize("costly", [1, 2, 3, 7, 20])
def test_finds_the_costly_nodes_in_a_few_evaluations(costly: int) -> None:
    world = World({node: 2.0 if number < costly else 1e-4 for number, node in enumerate(names(200))})
    found = search(world.ranked(), world, budget=60)
    assert found.passed and set(found.raised) == set(names(costly))


def test_a_ranking_that_is_wrong_still_ends_with_the_costly_node_alone() -> None:
    world = World({node: 3.0 if node == "n40" else 1e-3 for node in names(64)})
    found = search(names(64), world, budget=40)
    assert found.raised == ("n40",)


def test_nodes_that_only_help_together() -> None:
    """Raising one of a pair makes things worse, both makes them right."""
    world = World({**dict.fromkeys(names(30), 0.01), "n3": 0.8, "n17": 0.7}, alone={("n3", "n17"): 5.0})
    found = search(world.ranked(), world, budget=60)
    assert found.passed and set(found.raised) == {"n3", "n17"}


@pytest.mark.parametrize("seed", range(60))
def test_within_any_budget_the_answer_passes_and_with_enough_no_node_of_it_can_go(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 40))
    costs = dict(zip(names(count), map(float, random.lognormal(-2.5, 1.5, count)), strict=True))
    pairs = {(a, b): float(random.exponential(0.3)) for a, b in itertools.pairwise(random.permutation(names(count)))}
    world = World(costs, dict(itertools.islice(pairs.items(), int(random.integers(0, 4)))))
    budget = int(random.integers(2, 50))
    order = [str(node) for node in random.permutation(names(count))] if seed % 3 == 0 else world.ranked()

    found = search(order, world, budget)
    assert found.passed and world.error(frozenset(found.raised)) <= 1
    assert len(world.tried) <= budget and len(set(world.tried)) == len(world.tried) == len(found.curve)
    assert [point.raised for point in found.curve] == [len(tried) for tried in world.tried]

    found = search(order, world, 5000)
    for node in found.raised:
        assert world.error(frozenset(found.raised) - {node}) > 1


def test_a_ranking_by_true_costs_gives_the_smallest_set_there_is() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        world = World(dict(zip(names(9), map(float, random.exponential(0.5, 9)), strict=True)))
        smallest = next(size for size in range(10) for some in itertools.combinations(names(9), size)
                        if world.error(frozenset(some)) <= 1)
        assert len(search(world.ranked(), world, 500).raised) == smallest


def test_what_is_kept_is_raised_whatever_it_costs() -> None:
    world = World({"a": 5.0, "b": 0.4, "c": 0.3, "d": 0.2})
    assert search(world.ranked(), world, 20).raised == ("a",)
    assert set(search(world.ranked(), world, 20, kept=["d"]).raised) == {"a", "d"}


def test_a_search_needs_two_evaluations() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        search(names(2), lambda raised: Judged(passed=True, distance=0), budget=1)


def snr(low: frozenset[str], noise: dict[str, float]) -> Judged:
    total = sum(noise.get(node, 1e-9) for node in low)
    return Judged(passed=True, distance=total, snr_db={"y": float(-10 * np.log10(total))})


def test_ranking_goes_from_the_noisiest_to_the_quietest_node() -> None:
    noise = {"n2": 1.0, "n0": 0.1, "n4": 0.01}
    costs = rank(names(5), lambda low: snr(low, noise), evaluations=10)
    assert [cost.node for cost in costs] == ["n2", "n0", "n4", "n1", "n3"]
    assert costs[0].worst_db == pytest.approx(0)


def test_ranking_of_many_nodes_looks_into_the_noisy_groups_only() -> None:
    noise, tried = {"n777": 1.0, "n20": 0.5, "n21": 0.4}, []

    def only_low(low: frozenset[str]) -> Judged:
        tried.append(low)
        return snr(low, noise)

    costs = rank(names(1000), only_low, evaluations=80)
    assert [cost.node for cost in costs[:3]] == ["n777", "n20", "n21"]
    assert len(tried) <= 80 and sorted(cost.node for cost in costs) == sorted(names(1000))


def test_what_is_known_to_be_out_of_reach_comes_first_of_equals() -> None:
    lost = Judged(passed=False, distance=1e6, snr_db={"y": -300.0})
    costs = rank(names(6), lambda low: lost, evaluations=10, first=["n4", "n2"])
    assert [cost.node for cost in costs] == ["n4", "n2", "n0", "n1", "n3", "n5"]
