"""serving/models.config through a model's life, as TensorFlow Serving's own message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tests.publish.folders import publish
from trt_pipeline.errors import ConfigError
from trt_pipeline.publish import batching, record, served, serving_folder, versions


def models(root: Path) -> dict[str, Any]:
    message = text_format.Parse((root / "serving/models.config").read_text(),
                                model_server_config_pb2.ModelServerConfig())
    return {config.name: config for config in message.model_config_list.config}


def labels(root: Path, name: str = "demo") -> dict[str, int]:
    return dict(models(root)[name].version_labels)


def test_the_first_publication_is_both_stable_and_canary(tmp_path: Path) -> None:
    publish(tmp_path)
    config, = models(tmp_path).values()
    assert (config.name, config.base_path, config.model_platform) == ("demo", "/models/demo", "tensorflow")
    assert config.model_version_policy.latest.num_versions == 3
    assert labels(tmp_path) == {"stable": 1, "canary": 1}


def test_a_canary_is_promoted_by_a_line_in_the_config_and_rolled_back_by_another(tmp_path: Path) -> None:
    for content in "ab":
        publish(tmp_path, content)
    assert labels(tmp_path) == {"stable": 1, "canary": 2}
    promoted, = publish(tmp_path, "b", versions={"labels": {"stable": 2, "canary": "newest"}})
    assert (promoted.new, labels(tmp_path)) == (False, {"stable": 2, "canary": 2})
    publish(tmp_path, "b", versions={"labels": {"stable": 1, "canary": "newest"}})
    assert labels(tmp_path) == {"stable": 1, "canary": 2}
    publish(tmp_path, "c", versions={"labels": {"stable": 1, "canary": "newest"}})
    assert labels(tmp_path) == {"stable": 1, "canary": 3}


@pytest.mark.parametrize(("serve", "policy"), [
    ("all", "all { }"), ({"latest": 5}, "latest { num_versions: 5 }"),
    ({"specific": [1, 3]}, "specific { versions: 1 versions: 3 }")])
def test_every_policy_of_the_server_can_be_had(tmp_path: Path, serve: Any, policy: str) -> None:
    for content in "abc":
        publish(tmp_path, content, versions={"labels": {}})
    publish(tmp_path, "c", versions={"serve": serve, "labels": {}})
    assert text_format.MessageToString(models(tmp_path)["demo"].model_version_policy, as_one_line=True).replace(
        "{}", "{ }") == policy


def test_a_label_that_has_to_wait_is_told_in_the_file_and_of_the_publication(tmp_path: Path) -> None:
    for content in "abcde":
        publish(tmp_path, content)
    back, = publish(tmp_path, "e", versions={"labels": {"stable": 1}})
    assert back.why.endswith("label stable stays on version 4 until version 1 is loaded: run optimize again then")
    assert (labels(tmp_path), models(tmp_path)["demo"].model_version_policy.latest.num_versions) == ({"stable": 4}, 6)
    assert "# stable becomes 1 with the next publication" in (tmp_path / "serving/models.config").read_text()
    then, = publish(tmp_path, "e", versions={"labels": {"stable": 1}})
    assert (labels(tmp_path), "stays on" in then.why) == ({"stable": 1}, False)


def test_each_publication_knows_the_models_of_the_others(tmp_path: Path) -> None:
    publish(tmp_path, name="koen", versions={"serve": "all", "labels": {"best": "newest"}})
    publish(tmp_path, name="enko")
    publish(tmp_path, name="enko", content="b")
    assert [*models(tmp_path)] == ["enko", "koen"]
    assert models(tmp_path)["koen"].model_version_policy.HasField("all")
    assert (labels(tmp_path, "koen"), labels(tmp_path, "enko")) == ({"best": 1}, {"stable": 1, "canary": 2})


def test_models_without_a_record_are_served_by_the_defaults(tmp_path: Path) -> None:
    """Of an earlier version of the pipeline, or put there by hand; a file that cannot be read is no reason to stop."""
    for version in ("3", "7"):
        (tmp_path / "serving/old" / version).mkdir(parents=True)
        (tmp_path / "serving/old" / version / "saved_model.pb").write_text("graph")
    (tmp_path / "serving/old/7" / versions.MANIFEST).write_text('{"digest": "x", "kind": "savedmodel"}')
    (tmp_path / "serving/notes").mkdir()
    (tmp_path / "serving" / record.FILE).write_text('{"old": 3')
    publish(tmp_path)
    assert [*models(tmp_path)] == ["demo", "old"]
    assert labels(tmp_path, "old") == {"stable": 3, "canary": 7}


def test_a_model_that_was_removed_is_no_longer_listed(tmp_path: Path) -> None:
    publish(tmp_path, name="gone")
    publish(tmp_path)
    versions.shutil.rmtree(tmp_path / "serving/gone")
    publish(tmp_path)
    assert [*models(tmp_path)] == ["demo"]
    assert [*json.loads((tmp_path / "serving" / record.FILE).read_text())] == ["demo"]


def test_pruning_spares_what_a_label_names_now_or_named_until_now(tmp_path: Path) -> None:
    folder = tmp_path / "serving/demo"
    publish(tmp_path, "a", keep=1)
    publish(tmp_path, "b", keep=1)
    publish(tmp_path, "c", keep=1)
    assert versions.existing(folder) == [1, 2, 3]  # servers know 1 as stable until they read that it is 2
    publish(tmp_path, "d", keep=1)
    assert versions.existing(folder) == [2, 3, 4]
    for content in "efg":
        publish(tmp_path, content, keep=1, versions={"labels": {"stable": 3}})
    assert 3 in versions.existing(folder)
    assert versions.existing(folder)[-1] == 7


def test_without_labels_pruning_keeps_the_newest_and_what_is_specific(tmp_path: Path) -> None:
    for content in "abcd":
        publish(tmp_path, content, keep=2, versions={"labels": {}})
    assert versions.existing(tmp_path / "serving/demo") == [3, 4]
    for content in "efg":
        publish(tmp_path, content, keep=1, versions={"labels": {}, "serve": {"specific": [3]}})
    assert versions.existing(tmp_path / "serving/demo") == [3, 7]


def test_a_label_of_a_version_that_there_is_not_publishes_nothing(tmp_path: Path) -> None:
    publish(tmp_path)
    before = (tmp_path / "serving/models.config").read_text()
    with pytest.raises(ConfigError, match="label stable names version 5 of demo"):
        publish(tmp_path, "b", versions={"labels": {"stable": 5}})
    assert versions.existing(tmp_path / "serving/demo") == [1]
    assert (tmp_path / "serving/models.config").read_text() == before


def test_a_label_of_the_next_version_is_refused_where_none_is_made(tmp_path: Path) -> None:
    publish(tmp_path, versions={"labels": {"stable": 1}})
    with pytest.raises(ConfigError, match="label stable names version 2 of demo, which is not served: there are 1"):
        publish(tmp_path, versions={"labels": {"stable": 2}})
    assert labels(tmp_path) == {"stable": 1}
    publish(tmp_path, "b", versions={"labels": {"stable": 2}})
    assert labels(tmp_path) == {"stable": 2}


def test_batching_parameters_that_the_model_brings_stay_as_they_are(tmp_path: Path) -> None:
    own = tmp_path / "work/demo/model" / batching.PER_VERSION
    own.parent.mkdir(parents=True)
    own.write_text("its own")
    for size in (8, 4):
        publish(tmp_path, max_batch_size=size)
        assert (tmp_path / "serving/demo/1" / batching.PER_VERSION).read_text() == "its own"


def test_files_change_only_where_they_say_something_new_and_leave_nothing_behind(tmp_path: Path) -> None:
    publish(tmp_path)
    before = {path.name: path.stat().st_ino for path in (tmp_path / "serving").iterdir()}
    publish(tmp_path)
    assert {path.name: path.stat().st_ino for path in (tmp_path / "serving").iterdir()} == before
    assert not [name for name in before if name.startswith(".")]


def test_a_folder_without_models_has_no_files(tmp_path: Path) -> None:
    publish(tmp_path)
    versions.shutil.rmtree(tmp_path / "serving/demo")
    serving_folder.write(tmp_path / "serving", record.read(tmp_path / "serving"))
    assert list((tmp_path / "serving").iterdir()) == []


def test_a_manifest_says_what_servers_files_are_made_of(tmp_path: Path) -> None:
    publish(tmp_path, host_mb=123.4)
    version = served.read_version(tmp_path / "serving/demo", 1)
    assert (version.memory.host, version.memory.gpu) == (123.4, None)
    assert version.batches
    assert version.batches.sizes == (1, 2, 4, 8, 16, 32)
    publish(tmp_path, host_mb=200, max_batch_size=4)  # the same candidate, measured again
    version = served.read_version(tmp_path / "serving/demo", 1)
    assert version.memory.host == 200
    assert version.batches
    assert version.batches.sizes == (1, 2, 4)
    assert "value: 4" in (tmp_path / "serving/demo/1" / batching.PER_VERSION).read_text()
