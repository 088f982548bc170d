"""Every weighted operation of an exported model, bodies included, is found again under the name its author gave it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.conversion.onnx_precision import nets


def test_convolutions_whose_batch_norm_and_bias_were_folded_into_them(tmp_path: Path) -> None:
    made = nets.made(nets.Residual(), tmp_path, [nets.images(2, 16, 0)])
    found = nets.resolved(made)
    assert {name.rpartition("/")[2] for name in found} == {"first", "second", "third", "dense"}
    prefix = next(iter(found)).rpartition("/")[0]
    # What a convolution makes is what its batch norm made.
    norms = [name for name in made.ranges.ranges if "FusedBatchNorm" in name and name.endswith(":0")]
    assert {found[f"{prefix}/{n}"][1] for n in ("first", "second", "third")} == {made.ranges.of(n) for n in norms}


def test_a_product_in_a_loop(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    feeds = {"start": generator.normal(0, 1, (3, 8)).astype(np.float32), "steps": np.array(4, np.int32)}
    made = nets.made(nets.Recurrent(), tmp_path, [feeds])
    found = nets.resolved(made)
    inside = next(name for name in found if name.endswith("while/inside"))
    assert ".body/" in inside
    assert found[inside][1] == made.ranges.of(f"{inside}:0")
    # What comes after the loop reads what its body returns.
    assert found["StatefulPartitionedCall/after"][0] is not None
    assert len(found) == 2
    assert all(None not in pair for pair in found.values())
    # The simplified loop has lost its counters; ONNX answers as TensorFlow does all the same.
    expected = made.signature(start=tf.constant(feeds["start"]), steps=tf.constant(feeds["steps"]))["state"].numpy()
    np.testing.assert_allclose(nets.run(made.file, feeds)["state"], expected, rtol=1e-4, atol=1e-5)
