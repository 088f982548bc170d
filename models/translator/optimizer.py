"""Adam, and the learning rate over a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf


class Adam:
    """Adam with clipping by the global norm, on TensorFlow's own update kernel."""

    BETA1, BETA2, EPSILON, CLIP = 0.9, 0.98, 1e-9, 1.0

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        self.variables = list(variables)
        self.means = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]
        self.squares = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]
        self.steps = tf.Variable(0.0, trainable=False)

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """One update; `learning_rate` is a float32 scalar."""
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        clipped, _ = tf.clip_by_global_norm(dense, self.CLIP)
        steps = self.steps.assign_add(1.0)
        for variable, mean, square, gradient in zip(
            self.variables, self.means, self.squares, clipped, strict=True
        ):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=mean.handle,
                v=square.handle,
                beta1_power=tf.pow(self.BETA1, steps),
                beta2_power=tf.pow(self.BETA2, steps),
                lr=learning_rate,
                beta1=self.BETA1,
                beta2=self.BETA2,
                epsilon=self.EPSILON,
                grad=gradient,
            )


def learning_rate(step: int, total: int, peak: float = 2e-3, warm_up: int = 300) -> float:
    """Linear warm-up to the peak, then half a cosine down to 2 % of it."""
    warm = min(1.0, (step + 1) / warm_up)
    cosine = 0.5 * (1.0 + math.cos(math.pi * step / total))
    return peak * warm * max(0.02, cosine)
