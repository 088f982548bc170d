"""A whole model in int8: its contract, its size, and that stock TensorFlow serves it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion import canonical, rebuild
from trt_pipeline.conversion.onednn.rewrite import rewrite
from trt_pipeline.errors import Unsupported
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import differences

_CALL = """
import sys
import numpy as np
import tensorflow as tf
call = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
np.save(sys.argv[3], call(image=tf.constant(np.load(sys.argv[2])))["probabilities"].numpy())
assert not [name for name in sys.modules if name.startswith("trt_pipeline")]
"""


@pytest.fixture(scope="module")
def trained():
    model = Path("models/demo/1")
    loaded = tf.saved_model.load(str(model))
    return model, loaded, canonical.canonical(loaded.signatures["serving_default"])


def _images(name):
    return np.load(f"calibration_data/{name}.npz")["image"][:200].astype(np.float32)


@pytest.mark.parametrize("version", ["2.14", "2.17"])
def test_digits_in_stock_tensorflow(version, trained, tmp_path, measured, request):
    python = request.getfixturevalue("tensorflow_217") if version == "2.17" else sys.executable
    model, loaded, graph = trained
    copy = graph.graph_def.SerializeToString(deterministic=True)
    rewritten, low = rewrite(graph, measured(graph, {"image": _images("demo")}))
    assert graph.graph_def.SerializeToString(deterministic=True) == copy
    assert len(low.nodes) == 2
    assert list(low.kept.values()) == ["small: 2560 weights, and int8 gains nothing under 32768"]
    rebuild.write(loaded, {"serving_default": rewritten}, model, ("serve",), tmp_path / "int8")
    assert differences(saved_model.read_contract(model, ("serve",)),
                       saved_model.read_contract(tmp_path / "int8", ("serve",))) == []
    images = _images("demo_validation")
    np.save(tmp_path / "images.npy", images)
    subprocess.run([str(python), "-c", _CALL, str(tmp_path / "int8"), str(tmp_path / "images.npy"),
                    str(tmp_path / "out.npy")], check=True, cwd=tmp_path)
    expected = loaded.signatures["serving_default"](image=tf.constant(images))["probabilities"].numpy()
    found = np.load(tmp_path / "out.npy")
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.99
    assert np.abs(found - expected).max() > 0  # it is another arithmetic


def test_signature_without_products_is_refused(net):
    with pytest.raises(Unsupported, match="no operation of it can compute in int8"):
        net(tf.nn.softmax, [None, 4], np.ones((2, 4), np.float32))


def test_two_rewritings_of_one_graph_live_together(trained, tmp_path, measured):
    model, loaded, graph = trained
    ranges = measured(graph, {"image": _images("demo")})
    for number, raised in enumerate([frozenset(), frozenset({rewrite(graph, ranges)[1].nodes[0]})]):
        rewritten, _ = rewrite(graph, ranges, raised)
        rebuild.write(loaded, {"serving_default": rewritten}, model, ("serve",), tmp_path / str(number))


def test_weights_shrink_to_a_quarter(net):
    weight = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
    made = net(lambda x: x @ weight, [None, 512], np.ones((1, 512), np.float32))
    assert made.graph.graph_def.ByteSize() < made.original.graph_def.ByteSize() / 3.9


def test_missing_ranges_keep_what_lacks_them(trained):
    with pytest.raises(Unsupported, match="no range was measured"):
        rewrite(trained[2], SignatureRanges(ranges={}, extents={}))
