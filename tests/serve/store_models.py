"""Tiny models of which each version says which one it is."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trt_pipeline.publish import versions
from trt_pipeline.serve.models_config import All, Latest, ModelConfig, ServerConfig, Specific


def save(folder: Path, version: int) -> None:
    """By default ``x`` float32 [-1, 2] -> ``y``, x times ``version``, and ``version`` int64 [-1].

    `pairs` takes values ``x`` of any shape and puts them in pairs, and any ``n``; `words` returns what it gets.
    """
    import tensorflow as tf

    class Tiny(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.factor = tf.Variable(float(version))

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
        def plain(self, x: Any) -> Any:
            return {"y": x * self.factor, "version": tf.fill(tf.shape(x)[:1], tf.constant(version, tf.int64))}

        @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x"), tf.TensorSpec([None], tf.int32, "n")])
        def pairs(self, x: Any, n: Any) -> Any:
            return {"y": tf.reshape(x, [-1, 2]), "n": n}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def words(self, text: Any) -> Any:
            return {"text": text, "small": tf.ones([1], tf.bfloat16)}

    tiny = Tiny()
    tf.saved_model.save(tiny, str(folder), signatures={
        "serving_default": tiny.plain, "pairs": tiny.pairs, "words": tiny.words})


def publish(saved: Mapping[int, Path], base: Path, version: int, staging: Path) -> None:
    """Make ``version`` appear below ``base`` by one rename, as a publication does."""
    staged = staging / f"{base.name}-{version}"
    shutil.copytree(saved[version], staged)
    versions.place(staged, base / str(version))


def config(base: Path, policy: Latest | All | Specific = Latest(), name: str = "tiny",  # noqa: B008
           **labels: int) -> ServerConfig:
    """A server of one model."""
    return ServerConfig(models=(ModelConfig(name=name, base_path=base, policy=policy, labels=labels),))


def until(reached: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for ``reached``."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
