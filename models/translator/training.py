"""The loss and the training loop. Nothing here is part of an exported model."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from models.translator.batching import Batch, Example, make_batches
from models.translator.optimizer import Adam, learning_rate
from models.translator.tokenizer import PAD
from models.translator.transformer import Transformer

IDS = tf.TensorSpec([None, None], tf.int64)
RATE = tf.TensorSpec([], tf.float32)


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train."""

    steps: int
    seed: int = 0
    tokens_per_batch: int = 1500
    dropout: float = 0.15
    label_smoothing: float = 0.1
    averaged_checkpoints: int = 5
    checkpoint_every: int = 100
    report_every: int = 500


def loss(
    model: Transformer, source: tf.Tensor, target: tf.Tensor, dropout: float, smoothing: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Label-smoothed cross entropy and plain negative log likelihood, each a mean per target token.

    Only real tokens are projected to the vocabulary, the costliest product of the model. Smoothing
    needs the mean of a token's logits, which is its product with the mean embedding.
    """
    places = tf.where(tf.not_equal(target, PAD))
    hidden = tf.gather_nd(model.decode(source, target, dropout), places)
    tokens = tf.gather_nd(target, places)
    nll = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tokens, logits=model.logits(hidden))
    mean_embedding = tf.reduce_mean(model.embedding, 0)
    right_logit = tf.reduce_sum(hidden * tf.gather(model.embedding, tokens), -1)
    mean_logit = tf.linalg.matvec(hidden, mean_embedding)
    smoothed = nll + smoothing * (right_logit - mean_logit)
    return tf.reduce_mean(smoothed), tf.reduce_mean(nll)


def train(model: Transformer, training: Sequence[Example], dev: Sequence[Example], recipe: Recipe) -> None:
    """Trains `model` in place and leaves in it the mean of the last checkpoints."""
    adam = Adam(model.trainable_variables)

    @tf.function(input_signature=[IDS, IDS, RATE])
    def update(source: tf.Tensor, target: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            smoothed, nll = loss(model, source, target, recipe.dropout, recipe.label_smoothing)
        adam.apply(tape.gradient(smoothed, adam.variables), rate)
        return nll

    @tf.function(input_signature=[IDS, IDS])
    def measure(source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        return loss(model, source, target, 0.0, 0.0)[1]

    def dev_nll() -> float:
        batches = make_batches(dev, recipe.tokens_per_batch, np.random.default_rng(0))
        tokens = [int((batch.target != PAD).sum()) for batch in batches]
        return float(np.average([float(measure(b.source, b.target)) for b in batches], weights=tokens))

    random = np.random.default_rng(recipe.seed)
    waiting: list[Batch] = []
    checkpoints: deque[list[np.ndarray]] = deque(maxlen=recipe.averaged_checkpoints)
    recent: deque[float] = deque(maxlen=100)
    epoch, started = 0, time.process_time()
    for step in range(1, recipe.steps + 1):
        if not waiting:
            waiting = make_batches(training, recipe.tokens_per_batch, random)
            epoch += 1
        batch = waiting.pop()
        recent.append(float(update(batch.source, batch.target, learning_rate(step, recipe.steps))))
        if step % recipe.checkpoint_every == 0:
            checkpoints.append([variable.numpy() for variable in adam.variables])
        if step % recipe.report_every == 0 or step == recipe.steps:
            print(
                f"step {step}  epoch {epoch}  train nll {np.mean(recent):.3f}  dev nll {dev_nll():.3f}"
                f"  {(time.process_time() - started) / 60:.1f} CPU minutes",
                flush=True,
            )
    if checkpoints:
        for variable, *values in zip(adam.variables, *checkpoints, strict=True):
            variable.assign(np.mean(values, axis=0))
        print(f"mean of the last {len(checkpoints)} checkpoints: dev nll {dev_nll():.3f}", flush=True)
