"""Which versions are loaded and which labels name them, such that TensorFlow Serving can get from one to the next."""

from __future__ import annotations

from typing import Any

import pytest

from trt_pipeline.config.schema import VersionSettings
from trt_pipeline.errors import ConfigError
from trt_pipeline.publish import version_policy
from trt_pipeline.publish.version_policy import VersionPolicy


def settings(**values: Any) -> VersionSettings:
    return VersionSettings.model_validate(values)


def resolve(existing: list[int], before: VersionPolicy | None = None, **values: Any) -> VersionPolicy:
    return version_policy.resolve(settings(**values), "demo", existing, before)


def test_at_first_both_labels_name_the_one_version() -> None:
    assert resolve([1]).labels == {"stable": 1, "canary": 1}


def test_a_second_version_is_the_canary_of_the_first() -> None:
    assert resolve([1, 2]).labels == {"stable": 1, "canary": 2}
    assert resolve([4, 9, 12]).labels == {"stable": 9, "canary": 12}


@pytest.mark.parametrize(("existing", "values", "number", "served"), [
    ([1, 2, 3, 4], {}, 3, (2, 3, 4)),
    ([1, 2, 3, 4], {"labels": {}}, 2, (3, 4)),
    ([1, 2, 3, 4], {"labels": {}, "serve": {"latest": 1}}, 1, (4,)),
    ([1, 2, 3, 4, 5], {"labels": {"stable": 2}}, 5, (1, 2, 3, 4, 5)),
    ([2, 7, 8], {"labels": {"stable": 2}, "serve": {"latest": 1}}, 4, (2, 7, 8))])
def test_latest_reaches_back_to_every_label_and_one_further(existing: list[int], values: dict[str, Any], number: int,
                                                            served: tuple[int, ...]) -> None:
    """One further: a new version is loaded before the file that moves the labels is read."""
    policy = resolve(existing, **values)
    assert (policy.kind, policy.number, policy.served, policy.most) == ("latest", number, served, number)


def test_a_new_version_never_pushes_out_one_that_has_a_label() -> None:
    for values in ({}, {"labels": {"stable": 2}}, {"labels": {"stable": "newest"}, "serve": {"latest": 1}}):
        policy = resolve([1, 2, 3], **values)
        assert {*policy.labels.values()} <= {*[1, 2, 3, 4][-policy.number:]}


def test_all_serves_what_is_there() -> None:
    policy = resolve([1, 2, 3], serve="all")
    assert (policy.kind, policy.served, policy.most) == ("all", (1, 2, 3), 4)


def test_specific_versions_are_all_there_is() -> None:
    policy = resolve([1, 2, 3, 4], serve={"specific": [1, 3]})
    assert (policy.kind, policy.specific, policy.labels) == ("specific", (1, 3), {"stable": 1, "canary": 3})


def test_labels_move_on_with_new_versions() -> None:
    second = resolve([1, 2], before=resolve([1]))
    third = resolve([1, 2, 3], before=second)
    assert (third.labels, third.held) == ({"stable": 2, "canary": 3}, {})


def test_a_label_waits_for_a_version_that_servers_were_not_told_to_load() -> None:
    """They move labels before they load versions, and where one cannot move they do neither."""
    before = resolve([1, 2, 3, 4, 5, 6])
    assert 1 not in before.served
    back = resolve([1, 2, 3, 4, 5, 6], before, labels={"stable": 1, "canary": "newest"})
    assert (back.labels, back.held) == ({"stable": 5, "canary": 6}, {"stable": 1})
    assert 1 in back.served
    then = resolve([1, 2, 3, 4, 5, 6], back, labels={"stable": 1, "canary": "newest"})
    assert (then.labels, then.held) == ({"stable": 1, "canary": 6}, {})


def test_after_specific_versions_a_new_one_has_to_be_loaded_first() -> None:
    before = resolve([1, 2], serve={"specific": [1, 2]})
    now = resolve([1, 2, 3], before, serve={"specific": [1, 3]})
    assert (now.specific, now.labels, now.held) == ((1, 2, 3), {"stable": 1, "canary": 2}, {"canary": 3})
    then = resolve([1, 2, 3], now, serve={"specific": [1, 3]})
    assert (then.specific, then.labels, then.held) == ((1, 3), {"stable": 1, "canary": 3}, {})


def test_a_label_leaves_a_version_that_is_gone() -> None:
    before = resolve([1, 2], serve={"specific": [1, 2]})
    assert resolve([5], before).labels == {"stable": 5, "canary": 5}


@pytest.mark.parametrize(("values", "existing", "message"), [
    ({"labels": {"stable": 9}}, [1, 2],
     "label stable names version 9 of demo, which is not published: there are 1, 2"),
    ({"serve": {"specific": [9]}}, [], "versions.serve.specific names version 9 of demo, which is not published: there "
                                       "are none yet"),
    ({"serve": {"specific": [1]}, "labels": {"stable": 2}}, [1, 2],
     "label stable names version 2 of demo, which versions.serve.specific leaves out: add it there")])
def test_versions_that_there_are_not_are_refused(values: dict[str, Any], existing: list[int], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        version_policy.check(settings(**values), "demo", existing)
    assert str(caught.value) == message


def test_the_next_version_may_be_named_before_it_is_there() -> None:
    version_policy.check(settings(labels={"canary": 3}), "demo", [1, 2])
    with pytest.raises(ConfigError, match="label canary names version 3 of demo, which is not served: there are 1, 2"):
        resolve([1, 2], labels={"canary": 3})
