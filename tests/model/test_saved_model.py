"""SavedModels read as data: the committed ones, and copies that are damaged in every way we could think of."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorflow.core.protobuf import saved_model_pb2

from tests.conftest import ROOT
from trt_pipeline.errors import ModelError
from trt_pipeline.model import saved_model

DEMO, ENKO = ROOT / "models/demo/1", ROOT / "models/enko/1"
Edit = Callable[[Any], None]


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(DEMO, tmp_path / "demo")


def edit(model: Path, change: Edit) -> None:
    proto = saved_model_pb2.SavedModel.FromString((model / "saved_model.pb").read_bytes())
    change(proto)
    (model / "saved_model.pb").write_bytes(proto.SerializeToString())


def complaint(path: Path, tags: tuple[str, ...] = ("serve",)) -> str:
    with pytest.raises(ModelError) as caught:
        saved_model.read_contract(path, tags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Good models ---


def test_the_demo_s_contract() -> None:
    contract = saved_model.read_contract(DEMO)
    assert {name: (s.method_name, {k: str(t) for k, t in s.inputs.items()}, {k: str(t) for k, t in s.outputs.items()})
            for name, s in contract.signatures.items()} == {
        "serving_default": ("tensorflow/serving/predict", {"image": "float32 (-1,8,8,1)"},
                            {"logits": "float32 (-1,10)", "probabilities": "float32 (-1,10)"}),
        "classify": ("tensorflow/serving/classify", {"inputs": "string (-1)"},
                     {"classes": "string (-1,10)", "scores": "float32 (-1,10)"}),
        "lookup": ("tensorflow/serving/predict", {"names": "string (-1)"}, {"ids": "int64 (-1)"})}
    assert list(contract.signatures) == ["serving_default", "classify", "lookup"]
    assert contract.tags == ("serve",)
    assert contract.assets == {"labels.txt": hashlib.sha256((DEMO / "assets/labels.txt").read_bytes()).hexdigest()}
    assert (contract.extra_assets, contract.tables, contract.tensorflow_version) == ({}, 2, "2.14.1")
    assert contract.variable_bytes == (DEMO / "variables/variables.data-00000-of-00001").stat().st_size


def test_the_translator_s_contract() -> None:
    contract = saved_model.read_contract(ENKO)
    translate = contract.signatures["translate"]
    assert {k: str(t) for k, t in translate.inputs.items()} == {"input": "int64 (-1,-1)"}
    assert {k: str(t) for k, t in translate.outputs.items()} == {"outputs": "int32 (-1,-1)", "scores": "float32 (-1)"}
    assert (list(contract.extra_assets), contract.assets, contract.tables) == (["spm.model"], {}, 0)


def test_inputs_stand_in_the_order_of_the_signature_s_argument_list(tmp_path: Path) -> None:
    """TensorFlow sorts that list by name today; what the file says is what counts, not what we assume."""
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(lambda zeta, alpha, mid: {"y": zeta - alpha, "a": mid},
                              input_signature=[tf.TensorSpec([None], tf.float32, n) for n in ("zeta", "alpha", "mid")])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"b": module.call, "a": module.call})

    def reorder(proto: Any) -> None:
        for node in proto.meta_graphs[0].object_graph_def.nodes:
            if list(node.bare_concrete_function.argument_keywords) == ["alpha", "mid", "zeta"]:
                node.bare_concrete_function.argument_keywords[:] = ["zeta", "alpha", "mid"]

    contract = saved_model.read_contract(tmp_path / "m")
    assert list(contract.signatures) == ["b", "a"]
    assert list(contract.signatures["b"].inputs) == ["alpha", "mid", "zeta"]
    assert list(contract.signatures["b"].outputs) == ["a", "y"]
    edit(tmp_path / "m", reorder)
    assert list(saved_model.read_contract(tmp_path / "m").signatures["b"].inputs) == ["zeta", "alpha", "mid"]


def test_scalars_fixed_and_unknown_shapes(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    specs = [tf.TensorSpec([], tf.bool, "scalar"), tf.TensorSpec([2, None], tf.int8, "fixed"),
             tf.TensorSpec(None, tf.float64, "unknown")]
    module.call = tf.function(lambda scalar, fixed, unknown: {"n": tf.rank(unknown)}, input_signature=specs)
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.call)
    inputs = saved_model.read_contract(tmp_path / "m").signatures["serving_default"].inputs
    assert {k: str(t) for k, t in inputs.items()} == {
        "scalar": "bool ()", "fixed": "int8 (2,-1)", "unknown": "float64 (?)"}


def test_a_model_of_tensorflow_1_has_its_inputs_in_name_order(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        b, a = (v1.placeholder(tf.float32, [None, 2], name) for name in ("b", "a"))
        weights = v1.get_variable("w", [2], use_resource=False)
        table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["x"], [1]), 0)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        v1.saved_model.simple_save(session, str(tmp_path / "m"), {"b": b, "a": a},
                                   {"y": (a + b) * weights, "n": table.lookup(tf.constant(["x"]))},
                                   legacy_init_op=v1.tables_initializer())
    contract = saved_model.read_contract(tmp_path / "m")
    assert list(contract.signatures) == ["serving_default"]
    assert list(contract.signatures["serving_default"].inputs) == ["a", "b"]
    assert contract.tables == 1
    (tmp_path / "m/variables/variables.index").unlink()
    assert "lacks variables/variables.index" in complaint(tmp_path / "m")


def test_reading_neither_loads_nor_runs_the_model() -> None:
    """A SavedModel may hold any operation, ReadFile and WriteFile too."""
    script = ("import sys; from pathlib import Path; import tensorflow as tf\n"
              "tf.saved_model.load = tf.import_graph_def = tf.compat.v1.Session = None\n"
              "from trt_pipeline.model import saved_model\n"
              "print(len(saved_model.read_contract(Path(sys.argv[1])).signatures))")
    done = subprocess.run([sys.executable, "-c", script, str(DEMO)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"


# --- Not a SavedModel ---


def test_nothing_there(tmp_path: Path) -> None:
    assert complaint(tmp_path / "m") == (f"no model at {tmp_path}/m: check the path, or make it first "
                                         "(see models/README.md)")


def test_a_file() -> None:
    path = DEMO / "saved_model.pb"
    assert complaint(path) == f"{path} is not a SavedModel: it is a file; name the folder that holds saved_model.pb"


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    assert complaint(tmp_path) == f"{tmp_path} is not a SavedModel: it has no saved_model.pb"


def test_a_folder_of_versions_names_the_newest(tmp_path: Path) -> None:
    for version in ("2", "10", "9"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").write_bytes(b"")
    assert complaint(tmp_path) == (f"{tmp_path} is not a SavedModel: it has no saved_model.pb; its version 10 is one: "
                                   f"use {tmp_path}/10")


# --- Damaged ---


@pytest.mark.parametrize("damage", [
    lambda data: b"", lambda data: data[:100], lambda data: data[:len(data) // 2], lambda data: data[:-1],
    lambda data: b"\xff" * len(data), lambda data: b"not a protobuf", lambda data: data[1000:]],
    ids=["empty", "100 bytes", "half", "one byte short", "noise", "text", "no head"])
def test_a_damaged_graph(demo: Path, damage: Callable[[bytes], bytes]) -> None:
    file = demo / "saved_model.pb"
    file.write_bytes(damage(file.read_bytes()))
    assert complaint(demo) == (f"{file} is truncated or corrupt: it does not parse as a SavedModel; export or copy the "
                               "model again")


def test_a_missing_index_of_variables(demo: Path) -> None:
    (demo / "variables/variables.index").unlink()
    assert complaint(demo) == f"{demo} lacks variables/variables.index: the model has variables; copy the whole folder"


def test_missing_variables_altogether(demo: Path) -> None:
    shutil.rmtree(demo / "variables")
    assert "lacks variables/variables.index" in complaint(demo)


def test_missing_shards(demo: Path) -> None:
    shard = demo / "variables/variables.data-00000-of-00001"
    shard.rename(shard.with_name("variables.data-00001-of-00003"))
    assert complaint(demo) == f"{demo} has 1 of 3 variables.data files: copy the whole folder"
    (demo / "variables/variables.data-00001-of-00003").unlink()
    assert complaint(demo) == f"{demo} has 0 of 1 variables.data files: copy the whole folder"


def test_a_model_without_variables_needs_no_files_of_them(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.call)
    shutil.rmtree(tmp_path / "m/variables")
    assert saved_model.read_contract(tmp_path / "m").variable_bytes == 0


def test_a_missing_asset_is_noticed(demo: Path) -> None:
    """TensorFlow would find out only when a worker loads the model."""
    (demo / "assets/labels.txt").unlink()
    assert "labels.txt" in complaint(demo)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/../../b", "/etc/passwd", ".."])
def test_an_asset_that_leaves_its_folder_is_refused(demo: Path, name: str) -> None:
    def rename(proto: Any) -> None:
        proto.meta_graphs[0].asset_file_def[1].filename = name

    edit(demo, rename)
    assert complaint(demo) == f"{demo}: the asset name {name!r} leaves the model's assets folder; refused"


def test_an_asset_that_is_a_link_out_of_the_folder_is_not_read(demo: Path) -> None:
    (demo / "assets.extra").mkdir()
    (demo / "assets.extra/secret").symlink_to("/etc/passwd")
    assert saved_model.read_contract(demo).extra_assets == {}


def test_a_model_without_signatures(demo: Path) -> None:
    edit(demo, lambda proto: [proto.meta_graphs[0].signature_def.pop(key)
                              for key in ("serving_default", "classify", "lookup")])
    assert complaint(demo) == (f"{demo} has no signatures: export it with tf.saved_model.save(..., signatures=...)")


# --- Tags ---


def two_graphs(proto: Any) -> None:
    proto.meta_graphs.add().CopyFrom(proto.meta_graphs[0])
    proto.meta_graphs[1].meta_info_def.tags.append("gpu")
    proto.meta_graphs[1].signature_def.pop("lookup")


def test_the_graph_with_exactly_the_tags_is_read(demo: Path) -> None:
    edit(demo, two_graphs)
    assert len(saved_model.read_contract(demo).signatures) == 3
    tagged = saved_model.read_contract(demo, ("gpu", "serve"))
    assert (tagged.tags, len(tagged.signatures)) == (("gpu", "serve"), 2)
    assert saved_model.read_contract(demo, ("serve", "gpu")) == tagged


def test_unknown_tags_list_the_known_ones(demo: Path) -> None:
    edit(demo, two_graphs)
    assert complaint(demo, ("train",)) == (f"{demo} has no graph tagged train: it has serve; gpu,serve; set 'tags' to "
                                           "one of these")
