"""Optimization profiles from requests and from the config, and the one that a request belongs to."""

from __future__ import annotations

import pytest

from trt_pipeline.engine import profiles
from trt_pipeline.engine.profiles import Range
from trt_pipeline.errors import InputError
from trt_pipeline.samples.profiles import Extent

INPUTS = {"ids": (None, None), "scale": (1,)}


def _requests(*ids: tuple[int, int]) -> list[dict[str, tuple[int, ...]]]:
    return [{"ids": shape, "scale": (1,)} for shape in ids]


def test_one_profile_covers_all_requests_and_is_tuned_for_the_usual() -> None:
    made = profiles.make(INPUTS, _requests((1, 7), (8, 16), (8, 16), (4, 30)))
    assert made == [{"ids": Range((1, 7), (8, 16), (8, 30))}]


def test_of_requests_that_are_as_frequent_the_larger_is_the_usual() -> None:
    assert profiles.make(INPUTS, _requests((1, 7), (8, 16), (2, 9)))[0]["ids"].opt == (8, 16)


def test_the_usual_shapes_are_those_of_one_request() -> None:
    """The most frequent of each input alone would be (2, 9) and (1, 4), which no request has together."""
    shapes = [((2, 9), (2, 4)), ((2, 9), (2, 5)), ((1, 3), (1, 4)), ((1, 8), (1, 4)), ((1, 8), (1, 4))]
    made, = profiles.make({"a": (-1, -1), "b": (-1, -1)}, [{"a": a, "b": b} for a, b in shapes])
    assert (made["a"].opt, made["b"].opt) == ((1, 8), (1, 4))


def test_fixed_shapes_need_no_profile() -> None:
    assert profiles.make({"image": (1, 3, 8, 8)}, [{"image": (1, 3, 8, 8)}]) == []


def test_the_first_covers_the_configs_profiles_too_and_each_of_those_follows() -> None:
    given = {"ids": Extent(min=(1, 1), opt=(16, 20), max=(32, 64))}
    made = profiles.make(INPUTS, _requests((1, 7), (4, 90)), [given, given])
    assert made == [{"ids": Range((1, 1), (4, 90), (32, 90))}, {"ids": Range((1, 1), (16, 20), (32, 64))}]


def test_a_profile_that_is_the_first_already_is_not_built_twice() -> None:
    given = {"ids": Extent(min=(1, 1), opt=(8, 8), max=(8, 64))}
    assert len(profiles.make(INPUTS, _requests((8, 8)), [given])) == 1


def test_an_input_that_a_profile_leaves_out_has_its_batch() -> None:
    inputs = {"ids": (None, None), "mask": (None, None), "table": (None,)}
    requests = [{"ids": (2, 9), "mask": (2, 9), "table": (5,)}]
    given = {"ids": Extent(min=(1, 9), opt=(4, 9), max=(16, 9))}
    _, named = profiles.make(inputs, requests, [given])
    assert named["mask"] == Range((1, 9), (4, 9), (16, 9))


@pytest.mark.parametrize(("requests", "says"), [
    ([], "give samples"),
    ([{"ids": (1, 2)}], "no input 'scale'"),
    ([{"ids": (1, 2, 3), "scale": (1,)}], r"'ids' in shape \[1, 2, 3\], which the model does not take"),
    ([{"ids": (1, 2), "scale": (2,)}], r"'scale' in shape \[2\], which the model does not take: it takes \[1\]"),
])
def test_requests_that_do_not_fit_are_refused(requests: list[dict[str, tuple[int, ...]]], says: str) -> None:
    with pytest.raises(InputError, match=says):
        profiles.make(INPUTS, requests)


def test_a_request_goes_to_the_narrowest_profile_that_it_fits() -> None:
    wide, narrow = {"ids": Range((1, 1), (4, 9), (32, 90))}, {"ids": Range((1, 1), (1, 9), (1, 90))}
    assert profiles.choose([wide, narrow], {"ids": (1, 90)}) == 1
    assert profiles.choose([wide, narrow], {"ids": (2, 90)}) == 0
    assert profiles.choose([wide, narrow], {"ids": (33, 1)}) == -1
    assert profiles.outside([wide, narrow], {"ids": (33, 1)}) == (
        "input 'ids' has shape [33, 1], and the engine was built for [1, 1] to [32, 90] or [1, 1] to [1, 90]")


def test_shapes_that_fit_no_profile_together_are_told() -> None:
    two = [{"a": Range((1,), (1,), (4,)), "b": Range((1,), (1,), (1,))},
           {"a": Range((1,), (1,), (1,)), "b": Range((1,), (1,), (4,))}]
    assert profiles.choose(two, {"a": (4,), "b": (4,)}) == -1
    assert profiles.outside(two, {"a": (4,), "b": (4,)}) == "no profile has these shapes together: a [4], b [4]"


def test_they_are_the_same_through_json() -> None:
    made = profiles.make(INPUTS, _requests((1, 7), (8, 16)))
    assert profiles.from_json(profiles.as_json(made)) == made
