"""What is served where a user names it only in part."""

from __future__ import annotations

from pathlib import Path

import pytest

from trt_pipeline.errors import ConfigError, ModelError
from trt_pipeline.serve import batching_of, choose

CONFIG = """model_config_list {{ config {{ name: "named" base_path: "{}" model_platform: "tensorflow" }} }}"""


def names(*chosen: object) -> list[str]:
    return [model.name for model in choose(*chosen).models]  # type: ignore[arg-type]


def test_models_given_by_name_come_before_a_configuration_and_that_before_all_there_is(
        serving: Path, tmp_path: Path) -> None:
    (tmp_path / "toy").symlink_to(serving / "toy")
    assert names({}, None, tmp_path) == ["toy"]
    (tmp_path / "models.config").write_text(CONFIG.format(serving / "toy"))
    assert names({}, None, tmp_path) == ["named"]
    assert names({"own": serving / "toy"}, None, tmp_path) == ["own"]
    other = tmp_path / "other.config"
    other.write_text(CONFIG.format(serving / "toy").replace("named", "other"))
    assert names({}, other, tmp_path) == ["other"]
    with pytest.raises(ConfigError, match="give one of them"):
        choose({"own": serving / "toy"}, other, tmp_path)


def test_no_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="run trt-pipeline optimize NAME first"):
        choose({}, None, tmp_path)


def test_batching_is_as_the_file_says_else_as_published_else_none(tmp_path: Path) -> None:
    assert batching_of(None, tmp_path) is None
    (tmp_path / "batching_parameters.txt").write_text("max_batch_size { value: 7 }")
    own = tmp_path / "own.txt"
    own.write_text("max_batch_size { value: 9 }")
    assert [batching_of(file, tmp_path).max_batch_size for file in (None, own)] == [7, 9]  # type: ignore[union-attr]
