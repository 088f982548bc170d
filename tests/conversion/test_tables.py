"""Tables that a TensorFlow 1 export makes itself live on in what is rewritten and saved again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from trt_pipeline.conversion import freeze, rebuild, tables
from trt_pipeline.errors import Unsupported
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import differences

v1 = tf.compat.v1
WORDS = ["ant", "bee", "cat"]


def export(folder: Path, mutable: bool = False) -> Path:
    """`ids`: words to their numbers, by a file; `words`: back, by a list; `both`: words to the next ones."""
    (folder / "words.txt").write_text("\n".join(WORDS))
    with tf.Graph().as_default(), v1.Session() as session:
        words, ids = v1.placeholder(tf.string, [None], "words"), v1.placeholder(tf.int64, [None], "ids")
        asset = v1.constant(str(folder / "words.txt"))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
        initializer = tf.lookup.TextFileInitializer(
            asset, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
        numbers = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1) if mutable else (
            tf.lookup.StaticHashTable(initializer, -1))
        names = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(
            tf.range(3, dtype=tf.int64), tf.constant(WORDS)), "none")
        found = numbers.lookup(words)
        calls = {"ids": ({"words": words}, {"ids": found}), "words": ({"ids": ids}, {"words": names.lookup(ids)}),
                 "both": ({"words": words}, {"words": names.lookup((found + 1) % 3)})}
        described = {name: v1.saved_model.predict_signature_def(*call) for name, call in calls.items()}
        builder = v1.saved_model.Builder(str(folder / "m"))
        builder.add_meta_graph_and_variables(session, ["serve"], described, main_op=v1.tables_initializer(),
                                             assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS))
        builder.save()
    return folder / "m"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("tables"))


def ask(folder: Path) -> dict[str, list[Any]]:
    """What each signature says in a session, as in TensorFlow Serving; `tf.saved_model.load` has to say the same."""
    given = {"ids": {"words": [b"cat", b"ant", b"dog"]}, "words": {"ids": [2, 0, 9]},
             "both": {"words": [b"cat", b"ant"]}}
    loaded = tf.saved_model.load(str(folder))
    kinds = {"words": tf.string, "ids": tf.int64}
    eager = {name: loaded.signatures[name](**{key: tf.constant(value, kinds[key]) for key, value in feeds.items()})
             for name, feeds in given.items()}
    said: dict[str, list[Any]] = {}
    with v1.Session(graph=tf.Graph()) as session:
        signatures = v1.saved_model.load(session, ["serve"], str(folder)).signature_def
        for name, feeds in given.items():
            (output, described), = signatures[name].outputs.items()
            said[name] = session.run(described.name, {
                signatures[name].inputs[key].name: value for key, value in feeds.items()}).tolist()
            assert eager[name][output].numpy().tolist() == said[name]
    return said


@pytest.mark.parametrize("rewritten", [("both", "ids", "words"), ("both",), ("ids",)])
def test_what_is_rewritten_says_the_same_and_so_does_the_rest(
        model: Path, rewritten: tuple[str, ...], tmp_path: Path) -> None:
    loaded = tf.saved_model.load(str(model))
    graphs = {name: freeze.freeze(loaded.signatures[name]) for name in rewritten}
    assert not any(tables.makes_tables(graph.graph_def) for graph in graphs.values())
    rebuild.write(loaded, graphs, model, ("serve",), tmp_path / "m")
    assert ask(tmp_path / "m") == ask(model) == {
        "ids": [2, 0, -1], "words": [b"cat", b"ant", b"none"], "both": [b"ant", b"bee"]}
    before, after = saved_model.read_contract(model), saved_model.read_contract(tmp_path / "m")
    assert differences(before, after) == []
    assert (before.tables, list(before.assets)) == (2, ["words.txt"])


def test_signatures_share_the_table_that_they_shared(model: Path) -> None:
    loaded = tf.saved_model.load(str(model))
    first, second = (freeze.freeze(loaded.signatures[name]).resources for name in ("both", "words"))
    assert len(first) == 2
    assert len(second) == 1
    (handle,) = second.values()
    assert any(handle is other for other in first.values())
    assert tables.behind(handle).size() == 3


def test_a_table_that_can_change_is_refused_by_name(tmp_path: Path) -> None:
    loaded = tf.saved_model.load(str(export(tmp_path, mutable=True)))
    with pytest.raises(Unsupported, match=r"makes its look-up table MutableHashTable itself.*MutableHashTableV2"):
        freeze.freeze(loaded.signatures["ids"])
