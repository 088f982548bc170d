"""Which models a server has: TensorFlow Serving's configuration file, folders, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from trt_pipeline.errors import ConfigError, ModelError
from trt_pipeline.serve import models_config
from trt_pipeline.serve.models_config import All, Latest, ModelConfig, ServerConfig, Specific
from trt_pipeline.serve.refusal import Code, RefusalError

ENKO = 'config { name: "enko" base_path: "/m/enko" model_platform: "tensorflow" }'


def proto(entries: str) -> model_server_config_pb2.ModelServerConfig:
    """The message with these ``config`` entries."""
    return text_format.Parse(f"model_config_list {{ {entries} }}", model_server_config_pb2.ModelServerConfig())


def write(folder: Path, text: str) -> Path:
    file = folder / "models.config"
    file.write_text(text)
    return file


def version(base: Path, number: str, holding: str = "saved_model.pb") -> None:
    (base / number).mkdir(parents=True)
    (base / number / holding).write_bytes(b"")


def test_a_file_with_everything_in_it(tmp_path: Path) -> None:
    file = write(tmp_path, """
        model_config_list {
          config { name: "enko" base_path: "/m/enko" model_platform: "tensorflow"
                   model_version_policy { specific { versions: 3 versions: 7 } }
                   version_labels { key: "stable" value: 3 } version_labels { key: "canary" value: 7 } }
          config { name: "koen" base_path: "file:///m/koen" model_type: TENSORFLOW
                   model_version_policy { latest { num_versions: 2 } } }
          config { name: "iris" base_path: "/m/iris" model_platform: "onnxruntime" model_version_policy { all {} } }
          config { name: "plain" base_path: "/m/plain" model_platform: "tensorflow" model_version_policy { latest {} } }
        }""")
    assert models_config.read(file) == ServerConfig(source=file, models=(
        ModelConfig(name="enko", base_path=Path("/m/enko"), policy=Specific(versions=(3, 7)),
                    labels={"stable": 3, "canary": 7}),
        ModelConfig(name="koen", base_path=Path("/m/koen"), policy=Latest(versions=2)),
        ModelConfig(name="iris", base_path=Path("/m/iris"), platform="onnxruntime", policy=All()),
        ModelConfig(name="plain", base_path=Path("/m/plain"), policy=Latest(versions=1))))


def test_a_containers_base_path_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'model_config_list { config { name: "enko" base_path: "/models/no-such-model/x" '
                           'model_platform: "tensorflow" } ' + ENKO.replace("enko", "koen") + " }")
    first, second = models_config.read(file).models
    assert first.base_path == tmp_path / "no-such-model" / "x"
    assert second.base_path == Path("/m/koen"), "only what is below /models is elsewhere in a container"


@pytest.mark.parametrize(("entries", "message"), [
    (ENKO + ENKO, "Illegal to list model enko multiple times in config list"),
    (ENKO.replace("/m/", ""), "Expected model enko to have an absolute path or URI; got base_path()=enko"),
    ('config { name: "enko" model_platform: "tensorflow" }',
     "Expected model enko to have an absolute path or URI; got base_path()="),
    (ENKO.replace("/m/", "s3://bucket/"), "Model enko is at s3://bucket/enko: this server serves folders of its own "
                                          "machine only; copy it to one"),
    ('config { name: "enko" base_path: "/m" }',
     "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, model "
     "name is enko"),
    ('config { name: "enko" base_path: "/m" model_platform: "tensorflow" model_type: TENSORFLOW }',
     "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, model "
     "name is enko"),
    ('config { name: "enko" base_path: "/m" model_type: OTHER }',
     "ModelServerConfig::model_type choice 2 not supported."),
    (ENKO.replace('"enko"', '""'), "Model 1 of the config list has no name"),
])
def test_what_is_refused(tmp_path: Path, entries: str, message: str) -> None:
    with pytest.raises(RefusalError) as refused:
        models_config.of_proto(proto(entries))
    assert (refused.value.code, refused.value.message) == (Code.INVALID_ARGUMENT, message)
    file = write(tmp_path, f"model_config_list {{ {entries} }}")
    with pytest.raises(ConfigError) as wrong:
        models_config.read(file)
    assert str(wrong.value) == f"{file}: {message}"


@pytest.mark.parametrize("text", ["", 'custom_model_config { type_url: "x" }'])
def test_only_lists_of_models_are_configurations(text: str) -> None:
    with pytest.raises(RefusalError, match="Only ModelConfigList is currently supported") as refused:
        models_config.of_proto(text_format.Parse(text, model_server_config_pb2.ModelServerConfig()))
    assert refused.value.code == Code.INVALID_ARGUMENT


@pytest.mark.parametrize(("text", "says"), [
    ("model_config_list { config { nmae: 'x' } }", "nmae"),
    ("model_config_list { config { name: 'x' base_path: '/x' model_platform: 'tensorflow' model_version_policy "
     "{ all {} latest {} } } }", "latest"),
    ("\x00", "1:1"),
])
def test_a_file_that_is_no_configuration_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError, match=rf"^{file} is not a ModelServerConfig: [^\n]*{says}[^\n]*$"):
        models_config.read(file)


def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*: No such file or directory; .*optimize"):
        models_config.read(tmp_path / "absent")


def test_folders_found_below_a_serving_folder(tmp_path: Path) -> None:
    version(tmp_path / "enko", "2")
    version(tmp_path / "enko", "10")
    version(tmp_path / "onnx", "1", "model.onnx")
    for no_model in ("triton/enko/1", ".staging-1/1", "named/latest"):
        version(tmp_path / no_model, "1" if no_model == "named/latest" else "saved")
    (tmp_path / "incomplete" / "1").mkdir(parents=True)
    (tmp_path / "models.config").write_text("")
    version(tmp_path / "triton", "1")
    version(tmp_path / ".staging-1", "2")
    found = models_config.find(tmp_path)
    assert found == ServerConfig(source=tmp_path, models=(
        ModelConfig(name="enko", base_path=tmp_path / "enko"),
        ModelConfig(name="onnx", base_path=tmp_path / "onnx", platform="onnxruntime")))
    version(tmp_path / "new", "1")
    assert [model.name for model in models_config.again(found).models] == ["enko", "new", "onnx"]


def test_relative_folders_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version(tmp_path / "enko", "1")
    monkeypatch.chdir(tmp_path)
    assert models_config.of_folders({"e": Path("enko")}).models[0].base_path == tmp_path / "enko"


def test_nothing_to_serve_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model below .*: run trt-pipeline optimize NAME first"):
        models_config.find(tmp_path)
    with pytest.raises(ModelError, match=r"no version of enko in .*/NUMBER/saved_model.pb; run trt-pipeline optimize"):
        models_config.of_folders({"enko": tmp_path})
    with pytest.raises(ModelError, match="no models to serve: run trt-pipeline optimize NAME first"):
        models_config.of_folders({})


def test_a_platform_is_known(tmp_path: Path) -> None:
    file = write(tmp_path, f"model_config_list {{ {ENKO.replace('tensorflow', 'caffe')} }}")
    with pytest.raises(ConfigError, match="Model enko requests unsupported platform caffe"):
        models_config.read(file)


def test_a_model_keeps_its_platform() -> None:
    old, new = (models_config.of_proto(proto(ENKO.replace("tensorflow", name))) for name in ("tensorflow",
                                                                                             "onnxruntime"))
    models_config.check_change(old, old)
    with pytest.raises(RefusalError, match=r"^Illegal to change a model's platform\. For model enko platform was "
                                           r"tensorflow and new platform requested is onnxruntime$"):
        models_config.check_change(old, new)
