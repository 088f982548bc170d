"""The convolutional classifier, and training it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.demo.digits import LABELS, SIDE, Digits

CHANNELS = 16


class Classifier(tf.Module):
    """images float32 (N, 8, 8, 1) -> logits float32 (N, 10)"""

    def __init__(self) -> None:
        super().__init__()
        flat = (SIDE // 2) ** 2 * CHANNELS
        self.filters = [weights(3, 3, 1, CHANNELS), weights(3, 3, CHANNELS, CHANNELS)]
        self.offsets = [tf.Variable(tf.zeros([CHANNELS]), name="offset") for _ in self.filters]
        self.kernel = weights(flat, len(LABELS))
        self.bias = tf.Variable(tf.zeros([len(LABELS)]), name="bias")

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        x = images
        for stride, filters, offset in zip((1, 2), self.filters, self.offsets, strict=True):
            x = tf.nn.relu(tf.nn.conv2d(x, filters, stride, "SAME") + offset)
        return tf.matmul(tf.reshape(x, [-1, self.kernel.shape[0]]), self.kernel) + self.bias


def weights(*shape: int) -> tf.Variable:
    """He initialization: the last axis is the output, the others feed it."""
    deviation = (2.0 / float(np.prod(shape[:-1]))) ** 0.5
    return tf.Variable(tf.random.normal(shape, stddev=deviation), name="weights")


def train(model: Classifier, digits: Digits, epochs: int = 30, batch_size: int = 32) -> None:
    """Gradient descent with momentum; the rate falls to zero in a straight line."""
    variables = model.trainable_variables
    momenta = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]

    @tf.function
    def update(images: tf.Tensor, labels: tf.Tensor, rate: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=model(images))
            )
        for variable, momentum, gradient in zip(
            variables, momenta, tape.gradient(loss, variables), strict=True
        ):
            momentum.assign(0.9 * momentum + gradient)
            variable.assign_sub(rate * momentum)

    random = np.random.default_rng(0)
    steps_per_epoch = len(digits.labels) // batch_size
    total = epochs * steps_per_epoch
    for epoch in range(epochs):
        order = random.permutation(len(digits.labels))
        for step in range(steps_per_epoch):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            rate = 0.03 * (1.0 - (epoch * steps_per_epoch + step) / total)
            update(
                tf.constant(digits.images[chosen]),
                tf.constant(digits.labels[chosen]),
                tf.constant(rate, tf.float32),
            )


def accuracy(model: Classifier, digits: Digits) -> float:
    """The share of digits whose highest logit is the right one."""
    guesses = tf.argmax(model(tf.constant(digits.images)), 1).numpy()
    return float(np.mean(guesses == digits.labels))
