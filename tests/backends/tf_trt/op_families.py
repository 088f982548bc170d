"""Small graphs, one a family of operations: what TF-TRT converts, what it leaves alone, what it trips over.

A family is a function of what it owns (variables, tables) and of its inputs. `write` saves them as ONE
SavedModel with a signature a family; `samples` makes inputs for one. Values are of order 1, and where a
result jumps (rounding, ranking, comparing) the inputs lie far from the edge, so that half precision inside
the engines moves no answer by 2e-2. Two exceed its range, as real models do: `big_integers_to_float`, and
`attention` by its mask of -1e9, which is harmless only where it saturates.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

FAMILIES: dict[str, Family] = {}
WORDS = ("the", "cat", "sat", "on", "a", "mat")


@dataclass(frozen=True)
class Input:
    """One input of a family: its signature, and how a sample of a given shape is drawn."""

    dtype: tf.DType
    shape: tuple[int | None, ...]
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

    def of(self, size: int, free: int, generator: np.random.Generator) -> np.ndarray:
        """A sample with ``size`` rows, whose other free axes have length ``free``."""
        shape = (size, *(free if axis is None else axis for axis in self.shape[1:]))
        return np.asarray(self.draw(generator, shape), self.dtype.as_numpy_dtype)


@dataclass(frozen=True)
class Family:
    """A graph: ``call(owned, **inputs)`` returns the outputs by name."""

    call: Callable[..., dict[str, Any]]
    inputs: dict[str, Input]


class Owned:
    """The variables, tables and layers of one family, made in the order in which its function asks for them.

    A graph must not make variables while it is traced. So the function runs eagerly once, which makes
    them, and after `rewind` gets the same ones again.
    """

    def __init__(self, name: str, scratch: Path) -> None:
        self.scratch = scratch
        self.saved: list[Any] = []
        self._made: list[Any] = []
        self._asked = 0
        self._generator = np.random.default_rng(zlib.crc32(name.encode()))

    def rewind(self) -> None:
        self._asked = 0

    def values(self, *shape: int, fan_in: int | None = None) -> np.ndarray:
        """Numbers by which a product keeps the scale of the other factor."""
        return self._kept(lambda: self._draw(shape, fan_in))

    def weight(self, *shape: int, fan_in: int | None = None) -> tf.Variable:
        return self.keep(lambda: tf.Variable(self._draw(shape, fan_in)))

    def keep(self, make: Callable[[], Any]) -> Any:
        """The variable or table that ``make`` returns; it is saved with the model."""
        return self._kept(make, lambda made: [made])

    def layer(self, make: Callable[[], Any], *shape: int | None) -> Any:
        """The Keras layer that ``make`` returns, built for ``shape``; its weights are saved with the model."""

        def built() -> Any:
            layer = make()
            layer.build(shape)
            layer.set_weights([self._draw(w.shape) if w.ndim > 1 else w for w in layer.get_weights()])
            return layer

        return self._kept(built, lambda layer: layer.weights)

    def _kept(self, make: Callable[[], Any], saved: Callable[[Any], list[Any]] = lambda made: []) -> Any:
        self._asked += 1
        if self._asked > len(self._made):
            self._made.append(make())
            self.saved += saved(self._made[-1])
        return self._made[self._asked - 1]

    def _draw(self, shape: tuple[int, ...], fan_in: int | None = None) -> np.ndarray:
        scale = np.sqrt(fan_in or np.prod(shape[:-1]))
        return (self._generator.normal(size=shape) / scale).astype(np.float32)


def family(**inputs: Input) -> Callable[[Callable[..., dict[str, Any]]], Callable[..., dict[str, Any]]]:
    """Put a function into the table under its own name."""

    def register(call: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        FAMILIES[call.__name__] = Family(call, inputs)
        return call

    return register


def write(folder: Path, *names: str) -> None:
    """Save families as one SavedModel, a signature each: those named, or all."""
    module, signatures = tf.Module(), {}
    module.owned = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in names or FAMILIES:
            owned = Owned(name, Path(scratch))
            signatures[name] = _trace(name, owned)
            module.owned += owned.saved
        tf.saved_model.save(module, str(folder), signatures=signatures)


def samples(name: str, batch: int) -> dict[str, np.ndarray]:
    """Inputs for family ``name``: always the same for the same ``batch``; other free axes grow with it."""
    generator = np.random.default_rng([zlib.crc32(name.encode()), batch])
    return {key: i.of(batch, 2 * batch + 6, generator) for key, i in FAMILIES[name].inputs.items()}


def _trace(name: str, owned: Owned) -> Any:
    entry = FAMILIES[name]
    entry.call(owned, **{key: tf.constant(value) for key, value in samples(name, 1).items()})
    owned.rewind()
    specs = {key: tf.TensorSpec(i.shape, i.dtype, name=key) for key, i in entry.inputs.items()}
    return tf.function(lambda **inputs: entry.call(owned, **inputs), autograph=False).get_concrete_function(**specs)


# --- inputs ----------------------------------------------------------------------------------------


def floats(*shape: int | None, dtype: tf.DType = tf.float32) -> Input:
    return Input(dtype, shape, lambda generator, size: generator.normal(size=size))


def positive(*shape: int | None) -> Input:
    return Input(tf.float32, shape, lambda generator, size: generator.uniform(0.25, 2.0, size))


def eighths(*shape: int | None) -> Input:
    """Odd multiples of 1/8 in (-2, 2): exact in half precision, never on a quarter."""
    return Input(tf.float32, shape, lambda generator, size: generator.integers(-8, 8, size) / 4 + 1 / 8)


def ranked(*shape: int | None) -> Input:
    """Each row a shuffled arithmetic series in (0, 1): no ties, no near ties."""

    def draw(generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod(size[1:]))
        rows = generator.permuted(np.tile(np.arange(count), (size[0], 1)), axis=1)
        return ((rows + 0.5) / count).reshape(size)

    return Input(tf.float32, shape, draw)


def whole(low: int, high: int, *shape: int | None, dtype: tf.DType = tf.int32) -> Input:
    """Integers in [low, high)."""
    return Input(dtype, shape, lambda generator, size: generator.integers(low, high, size))


def words(*shape: int | None) -> Input:
    """Words of which some are in the vocabulary."""
    known = np.array([word.encode() for word in (*WORDS, "dog", "rug")], object)
    return Input(tf.string, shape, lambda generator, size: known[generator.integers(0, len(known), size)])


def sentences(*shape: int | None) -> Input:
    """Sentences of one to four words."""

    def draw(generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        texts = np.empty(size, object)
        for index in np.ndindex(size):
            texts[index] = " ".join(generator.choice(WORDS, generator.integers(1, 5))).encode()
        return texts

    return Input(tf.string, shape, draw)


def records(*shape: int | None) -> Input:
    """Serialized `tf.train.Example`s with a feature 'x' of six floats."""

    def draw(generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        examples = np.empty(size, object)
        for index in np.ndindex(size):
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=generator.normal(size=6)))
            features = tf.train.Features(feature={"x": feature})
            examples[index] = tf.train.Example(features=features).SerializeToString()
        return examples

    return Input(tf.string, shape, draw)


def boxes(*shape: int | None) -> Input:
    """Boxes (y1, x1, y2, x2) of side 1/4 with corners on the grid of quarters: they coincide or barely meet."""

    def draw(generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        corner = generator.integers(0, 3, (*size[:-1], 2)) / 4
        return np.concatenate([corner, corner + 1 / 4], axis=-1)

    return Input(tf.float32, shape, draw)


# --- convolutions, pooling, images -------------------------------------------------------------------


@family(x=floats(None, None, 6))
def conv_1d(own, x):
    h = tf.nn.relu(tf.nn.conv1d(x, own.weight(3, 6, 8), 1, "SAME"))
    return {"y": tf.nn.conv1d(h, own.weight(5, 8, 4), 2, "VALID")}


@family(x=floats(None, 12, 12, 3))
def conv_2d(own, x):
    h = tf.nn.bias_add(tf.nn.conv2d(x, own.weight(3, 3, 3, 8), 1, "SAME"), own.weight(8, fan_in=10))
    return {"y": tf.nn.conv2d(tf.nn.relu(h), own.weight(3, 3, 8, 4), [1, 2, 2, 1], "VALID")}


@family(x=floats(None, 9, 9, 3))
def conv_2d_explicit_padding(own, x):
    h = tf.nn.conv2d(x, own.weight(3, 3, 3, 8), 2, [[0, 0], [2, 0], [1, 3], [0, 0]])
    return {"y": tf.nn.conv2d(tf.nn.relu(h), own.weight(1, 1, 8, 4), 1, "VALID")}


@family(x=floats(None, 12, 12, 3))
def conv_2d_dilated(own, x):
    h = tf.nn.relu(tf.nn.conv2d(x, own.weight(3, 3, 3, 8), 1, "SAME", dilations=2))
    return {"y": tf.nn.atrous_conv2d(h, own.weight(3, 3, 8, 4), rate=2, padding="SAME")}  # SpaceToBatchND


@family(x=floats(None, 6, 6, 4))
def conv_2d_transpose(own, x):
    fixed = tf.nn.conv2d_transpose(x, own.weight(3, 3, 6, 4, fan_in=16), [tf.shape(x)[0], 12, 12, 6], 2, "SAME")
    return {"y": tf.nn.relu(tf.nn.bias_add(fixed, own.weight(6, fan_in=10)))}


@family(x=floats(None, None, None, 4))
def conv_2d_transpose_free_size(own, x):
    size = tf.shape(x)
    target = tf.stack([size[0], size[1] * 2, size[2] * 2, 6])
    return {"y": tf.nn.relu(tf.nn.conv2d_transpose(x, own.weight(3, 3, 6, 4, fan_in=16), target, 2, "SAME"))}


@family(x=floats(None, 10, 10, 4))
def conv_depthwise(own, x):
    h = tf.nn.depthwise_conv2d(x, own.weight(3, 3, 4, 2, fan_in=9), [1, 1, 1, 1], "SAME")
    split = tf.nn.separable_conv2d(tf.nn.relu6(h), own.weight(3, 3, 8, 1, fan_in=9), own.weight(1, 1, 8, 4),
                                   [1, 2, 2, 1], "SAME")
    return {"y": split}


@family(x=floats(None, 4, 8, 8, 2))
def conv_3d(own, x):
    h = tf.nn.relu(tf.nn.conv3d(x, own.weight(3, 3, 3, 2, 4), [1, 1, 1, 1, 1], "SAME"))
    h = tf.nn.max_pool3d(h, 2, 2, "VALID")
    return {"y": tf.nn.conv3d_transpose(h, own.weight(2, 2, 2, 3, 4, fan_in=4), [tf.shape(x)[0], 4, 8, 8, 3], 2)}


@family(x=floats(None, None, None, 3))
def image_block(own, x):
    h = tf.nn.conv2d(x, own.weight(3, 3, 3, 8), 1, "SAME")
    mean, variance = own.weight(8, fan_in=10), own.keep(lambda: tf.Variable(np.linspace(0.5, 2, 8, dtype=np.float32)))
    h, *_ = tf.compat.v1.nn.fused_batch_norm(h, 1 + own.weight(8, fan_in=10), own.weight(8, fan_in=10), mean, variance,
                                             is_training=False)
    h = tf.nn.avg_pool2d(tf.nn.max_pool2d(tf.nn.relu(h), 2, 2, "SAME"), 2, 1, "SAME")
    return {"probabilities": tf.nn.softmax(tf.reduce_mean(h, [1, 2]) @ own.weight(8, 5))}


@family(image=whole(0, 256, None, 12, 12, 3, dtype=tf.uint8))
def uint8_image(own, image):
    x = (tf.cast(image, tf.float32) - 127.5) / 64.0
    return {"y": tf.nn.conv2d(x, own.weight(3, 3, 3, 4), 2, "SAME") + own.weight(4, fan_in=10)}


@family(x=floats(None, 6, 6, 3))
def resize(own, x):
    near = tf.image.resize(tf.nn.relu(x), [12, 12], "nearest")
    smooth = tf.image.resize(near * 0.5, [9, 7], "bilinear")
    corners = tf.compat.v1.image.resize_bilinear(x * 2.0, [11, 11], align_corners=True)
    return {"smooth": smooth + 1.0, "corners": corners - 1.0}


@family(x=floats(None, None, None, 3))
def resize_free_size(own, x):
    up = tf.image.resize(tf.nn.relu(x), tf.shape(x)[1:3] * 2, "bilinear")
    return {"y": tf.nn.conv2d(up, own.weight(3, 3, 3, 4), 1, "SAME")}


@family(x=floats(None, 8, 8, 4))
def space_and_depth(own, x):
    h = tf.nn.space_to_depth(tf.nn.relu(x), 2)
    return {"y": tf.nn.depth_to_space(h * own.weight(16, fan_in=1), 4)}


@family(x=floats(None, 6, 6, 3))
def pad(own, x):
    zeros = tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 2], [2, 1], [0, 0]]), own.weight(3, 3, 3, 4), 1, "VALID")
    filled = tf.pad(tf.nn.relu(x), [[0, 0], [0, 1], [1, 0], [0, 0]], constant_values=0.5) * 2.0
    mirror = tf.pad(x + 1.0, [[0, 0], [2, 2], [1, 1], [0, 0]], "REFLECT") * 0.5
    return {"zeros": zeros, "filled": filled, "mirror": mirror}


# --- products ------------------------------------------------------------------------------------------


@family(x=floats(None, 8))
def dense(own, x):
    h = tf.nn.relu(tf.nn.bias_add(x @ own.weight(8, 16), own.weight(16, fan_in=10)))
    h = tf.nn.sigmoid(tf.matmul(h, own.weight(16, 16), transpose_b=True) + own.weight(16, fan_in=10))
    return {"y": h @ tf.constant(own.values(16, 4))}


@family(x=floats(None, None, 8))
def dense_rank_3(own, x):
    h = tf.nn.relu(tf.tensordot(x, own.weight(8, 16), 1) + own.weight(16, fan_in=10))
    return {"y": tf.matmul(h, own.weight(16, 4))}


@family(x=floats(None, 3, 5, 4), y=floats(None, 3, 6, 4))
def batch_matmul(own, x, y):
    scores = tf.nn.softmax(tf.matmul(x, y, transpose_b=True) * 0.5)
    back = tf.matmul(scores, x, transpose_a=True)
    return {"z": tf.matmul(back, tf.constant(own.values(1, 3, 4, 7))) + 1.0}


@family(x=floats(None, None, 2, 4), y=floats(None, None, 2, 4))
def einsum(own, x, y):
    scores = tf.nn.softmax(tf.einsum("bqhd,bkhd->bhqk", x, y))
    mixed = tf.einsum("bhqk,bkhd->bqhd", scores, y)
    joined = tf.einsum("bqhd,hde->bqe", mixed, own.weight(2, 4, 6))
    return {"joined": joined, "outer": tf.einsum("bqe,bqf->bef", joined, joined) * 0.1,
            "trace": tf.einsum("bqhh->bq", tf.einsum("bqhd,bqgd->bqhg", x, y))}


@family(x=floats(None, None, 16), lengths=whole(1, 9, None))
def attention(own, x, lengths):
    batch = tf.shape(x)[0]

    def heads(weight: Any) -> Any:
        return tf.transpose(tf.reshape(x @ weight, [batch, -1, 4, 4]), [0, 2, 1, 3])

    q, k, v = (heads(own.weight(16, 16)) for _ in range(3))
    known = tf.sequence_mask(lengths, tf.shape(x)[1], tf.float32)[:, None, None]
    past = tf.linalg.band_part(tf.ones([tf.shape(x)[1], tf.shape(x)[1]]), -1, 0)
    scores = tf.matmul(q, k, transpose_b=True) / 2.0 + (1.0 - known * past) * -1e9
    mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), v), [0, 2, 1, 3])
    return {"y": x + tf.reshape(mixed, [batch, -1, 16]) @ own.weight(16, 16)}


# --- normalisation and activation ------------------------------------------------------------------


@family(x=floats(None, None, 12))
def layer_norm(own, x):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    h = (x - mean) * tf.math.rsqrt(variance + 1e-5) * (1 + own.weight(12, fan_in=10)) + own.weight(12, fan_in=10)
    return {"y": tf.nn.gelu(h @ own.weight(12, 24), approximate=True) @ own.weight(24, 12)}


@family(x=floats(None, None, 12))
def layer_norm_keras(own, x):
    h = own.layer(tf.keras.layers.LayerNormalization, None, None, 12)(x @ own.weight(12, 12))
    return {"y": tf.nn.relu(h) @ own.weight(12, 4)}


@family(x=floats(None, 6, 6, 8))
def group_norm(own, x):
    h = tf.reshape(x, [-1, 6, 6, 2, 4])
    mean, variance = tf.nn.moments(h, [1, 2, 4], keepdims=True)
    h = tf.reshape((h - mean) * tf.math.rsqrt(variance + 1e-3), [-1, 6, 6, 8])
    one = tf.nn.moments(h, [1, 2], keepdims=True)  # a group a channel
    return {"y": (h - one[0]) / tf.sqrt(one[1] + 1e-3) * own.weight(8, fan_in=1)}


@family(x=floats(None, 4, 10))
def softmax(own, x):
    h = x @ own.weight(10, 6)
    return {"rows": tf.nn.softmax(h), "columns": tf.nn.softmax(h, axis=1), "logs": tf.nn.log_softmax(h * 2.0)}


@family(x=floats(None, 10))
def activations(own, x):
    h = x @ own.weight(10, 10)
    kinds = (tf.nn.leaky_relu, tf.nn.elu, tf.nn.selu, tf.nn.softplus, tf.nn.softsign, tf.nn.swish, tf.nn.relu6)
    return {"joined": tf.concat([kind(h) * 1.5 - 0.5 for kind in kinds], -1), "tanh": tf.tanh(h + 0.5),
            "clipped": tf.clip_by_value(h, -0.25, 0.75) * 2.0, "erf": tf.nn.gelu(h, approximate=False)}


# --- elementwise, reductions ---------------------------------------------------------------------------


@family(x=positive(None, 3, 8))
def unary(own, x):
    h = x * tf.constant([[0.5], [1.0], [1.5]])
    h = tf.sqrt(tf.exp(-h)) + tf.math.log(1.0 + tf.abs(h)) - tf.math.reciprocal(h + 1.0)
    waves = tf.sin(h) + tf.cos(h) * tf.tan(h * 0.5) + tf.asinh(h) - tf.atan(h) + tf.sinh(h * 0.5) + tf.math.erf(h)
    return {"y": h, "waves": waves, "more": tf.acos(h * 0.2) + tf.asin(h * 0.2) + tf.cosh(h) - tf.math.atanh(h * 0.2)}


@family(x=eighths(None, 8))
def rounding(own, x):
    h = x * 1.0 + tf.constant([0.0, 1.0] * 4)
    return {"floor": tf.floor(h), "ceil": tf.math.ceil(h), "round": tf.round(h), "sign": tf.sign(h) * 0.5}


@family(x=positive(None, 4, 6), y=positive(None, 1, 6))
def binary(own, x, y):
    h = (x + y) * own.weight(4, 1, fan_in=1) - 1.0 / y
    h = tf.maximum(h, tf.constant(own.values(6, fan_in=1))) + tf.minimum(y, 1.0)
    return {"y": tf.math.squared_difference(h, x), "power": tf.pow(x, y * 0.5), "safe": tf.math.divide_no_nan(x, y)}


@family(x=floats(None, 4, 5))
def constant_broadcast(own, x):
    left = tf.constant(own.values(5, fan_in=1)) * x
    right = left + tf.constant(own.values(1, 4, 1, fan_in=1))
    third = tf.constant(np.full((4, 5), 3.0, np.float32))
    return {"y": tf.constant(2.0) - right / third, "wide": right[:, None] + left[:, :, None]}


@family(x=eighths(None, 6))
def division_with_rest(own, x):
    h = x * 4.0 + 0.25
    return {"floor": tf.math.floordiv(h, 2.0), "mod": tf.math.floormod(h, 2.0),
            "rest": tf.truncatemod(h, 3.0) / 3.0}


@family(x=floats(None, 3, 6))
def reductions(own, x):
    h = x * own.weight(6, fan_in=1)
    return {"sum": tf.reduce_sum(h, -1), "mean": tf.reduce_mean(h, [1, 2], keepdims=True), "max": tf.reduce_max(h, 1),
            "min": tf.reduce_min(h, 2), "product": tf.reduce_prod(1.0 + 0.1 * h, 1),
            "norm": tf.sqrt(tf.reduce_sum(tf.square(h), -1)), "log": tf.reduce_logsumexp(h, 1)}


@family(x=floats(None, 3, 6))
def cumulative_sum(own, x):
    h = tf.cumsum(tf.nn.relu(x) * 0.5, axis=-1) + 1.0
    return {"y": tf.cumsum(h * 0.25, axis=1, exclusive=True, reverse=True)}


@family(x=floats(None, 6))
def scalar_in_between(own, x):
    peak = tf.reduce_max(tf.abs(x)) + 1.0
    return {"y": tf.nn.relu(x / peak) @ own.weight(6, 4) + 1.0 / peak, "peak": peak * 0.5}


# --- comparing, choosing, ranking ------------------------------------------------------------------------


@family(x=eighths(None, 6), y=eighths(None, 6))
def comparisons(own, x, y):
    h = x + 0.0625
    near = tf.logical_and(h > y, tf.logical_not(h <= -1.0))
    return {"near": near, "any": tf.reduce_any(tf.logical_or(near, y >= 1.0), -1), "equal": tf.equal(x, y),
            "different": tf.not_equal(x * 2.0, y * 2.0), "all": tf.reduce_all(h < 1.5)}


@family(x=eighths(None, 6), y=floats(None, 6))
def select(own, x, y):
    h = tf.where(x * 2.0 > 0.5, y, x - 1.0)
    return {"y": tf.where(tf.equal(x, 0.125), 0.0, h) * own.weight(6, fan_in=1),
            "old": tf.compat.v1.where(x > 0.5, h, y * 2.0)}


@family(x=eighths(None, 6), y=floats(None, 6))
def select_by_row(own, x, y):
    """TensorFlow 1's `Select` takes a condition a row; TF-TRT makes a list as long as the batch: of -1 elements."""
    return {"y": tf.compat.v1.where(tf.reduce_max(x * 2.0, -1) > 0.5, tf.nn.relu(y), y * 2.0) + 1.0}


@family(x=eighths(None, 256, 3))
def select_by_fixed_rows(own, x):
    """Here that list is as long as the rows are many, and TF-TRT copies it into an array of eight."""
    h = tf.reduce_mean(x * 2.0, 0)
    return {"y": tf.compat.v1.where(tf.reduce_max(x, [0, 2]) > 0.5, h, h * 2.0) + 1.0}


@family(x=ranked(None, 24))
def top_k(own, x):
    values, indices = tf.math.top_k(x * 2.0 - 1.0, 5)
    return {"values": values * 0.5, "indices": indices, "next": indices // 2}


@family(x=ranked(None, 4, 9))
def arg_max(own, x):
    h = x * 3.0 - 1.0
    return {"long": tf.argmax(h, -1), "short": tf.argmin(h, 1, output_type=tf.int32), "best": tf.reduce_max(h, -1)}


@family(x=ranked(None, 12))
def sort(own, x):
    h = x * 2.0 - 1.0
    return {"sorted": tf.sort(h) + 0.5, "order": tf.argsort(h, direction="DESCENDING")}


@family(place=boxes(None, 8, 4), score=ranked(None, 8, 2))
def nms_combined(own, place, score):
    kept = tf.image.combined_non_max_suppression(place[:, :, None] * 0.5, score * 0.9, 4, 6, 0.5, 0.25)
    return {"boxes": kept.nmsed_boxes, "scores": kept.nmsed_scores * 2.0, "classes": kept.nmsed_classes,
            "valid": kept.valid_detections}


@family(place=boxes(None, 8, 4), score=ranked(None, 8))
def nms(own, place, score):
    apart = tf.range(tf.shape(score)[0])[:, None]  # rows are ranked each for itself
    flat, chance = tf.reshape(place, [-1, 4]) * 0.5, tf.reshape(score + 0.01 * tf.cast(apart, tf.float32), [-1])
    hard = tf.raw_ops.NonMaxSuppressionV4(boxes=flat, scores=chance, max_output_size=6, iou_threshold=0.5,
                                          score_threshold=0.2, pad_to_max_output_size=True)
    soft, scores = tf.image.non_max_suppression_with_scores(flat, chance, 6, 0.5, soft_nms_sigma=0.0)  # V5
    return {"hard": hard.selected_indices, "valid": hard.valid_outputs, "soft": soft, "scores": scores * 0.5,
            "boxes": tf.gather(flat, soft) + 1.0}


@family(place=boxes(None, 8, 4), score=ranked(None, 8))
def nms_in_loops(own, place, score):
    chosen, valid = tf.image.non_max_suppression_padded(place * 0.5, score * 0.9, 4, 0.5, pad_to_max_output_size=True)
    return {"scores": tf.gather(score, chosen, batch_dims=1) * 2.0, "chosen": chosen, "valid": valid}


# --- moving data -------------------------------------------------------------------------------------


@family(x=floats(None, 4, 6))
def reshape_transpose(own, x):
    h = tf.transpose(tf.reshape(x * 2.0, [-1, 4, 2, 3]), [0, 2, 1, 3])
    h = tf.squeeze(tf.expand_dims(tf.reshape(h, [tf.shape(x)[0], 2, -1]), 1), [1])
    return {"y": tf.transpose(tf.nn.relu(h), [0, 2, 1]), "flat": tf.reshape(h, [tf.shape(x)[0], -1]) + 1.0}


@family(x=floats(None, 6), y=floats(None, 4, 6))
def transpose_batch_axis(own, x, y):
    turned = tf.nn.relu(tf.transpose(x)) * 2.0
    merged = tf.reshape(tf.transpose(y, [1, 0, 2]), [-1, 6]) @ own.weight(6, 3)
    return {"turned": tf.transpose(turned), "merged": tf.transpose(tf.reshape(merged, [4, -1, 3]), [1, 0, 2])}


@family(x=floats(None, None, 8))
def slices(own, x):
    h = x * own.weight(8, fan_in=1)
    return {"inner": h[:, 1:-1, ::2] + 1.0, "reversed": h[:, ::-1, 1] * 2.0, "last": h[..., -1, :] - 1.0,
            "masked": tf.nn.relu(h[:, tf.newaxis, :3]),
            "half": tf.slice(h, [0, 0, 2], [-1, tf.shape(x)[1] // 2, 4]) * 0.5}


@family(x=floats(None, 6, 4), y=floats(None, 2, 4))
def split_and_join(own, x, y):
    one, two, three = tf.split(x * 2.0, 3, axis=1)
    front, back = tf.split(tf.concat([one + two, y], 1), [1, 3], axis=1)
    rows = tf.unstack(tf.concat([front, back], 1) - 1.0, axis=1)
    return {"stacked": tf.stack(rows[::-1], axis=2), "joined": tf.concat([tf.nn.relu(three), y], -1), "front": front}


@family(x=floats(None, 1, 4))
def tile_and_broadcast(own, x):
    h = tf.tile(x * 2.0, [1, 3, 2]) + own.weight(8, fan_in=1)
    wide = tf.broadcast_to(tf.nn.relu(x), [tf.shape(x)[0], 5, 4])
    return {"tiled": h, "wide": wide - 1.0, "filled": tf.fill([tf.shape(x)[0], 2], 0.5) + h[:, 0, :2],
            "ones": tf.ones_like(h) - h}


@family(ids=whole(0, 7, None, 3))
def one_hot(own, ids):
    return {"product": tf.one_hot(ids, 7) @ own.weight(7, 4), "smooth": tf.one_hot(ids, 7, 0.9, 0.1, axis=1) * 2.0}


@family(ids=whole(0, 20, None, None))
def embedding(own, ids):
    h = tf.nn.embedding_lookup(own.weight(20, 8, fan_in=1), ids) + own.weight(16, 8, fan_in=10)[: tf.shape(ids)[1]]
    return {"y": tf.reduce_mean(tf.nn.relu(h @ own.weight(8, 8)), 1)}


@family(x=floats(None, 6, 4), ids=whole(0, 6, None, 3, dtype=tf.int64))
def gather_by_int64(own, x, ids):
    rows = tf.gather(x * 2.0, ids, batch_dims=1)
    points = tf.gather_nd(x, tf.stack([ids[:, 0], ids[:, 1] % 4], -1), batch_dims=1)
    return {"y": tf.nn.relu(rows) @ own.weight(4, 2), "points": points + 1.0, "ids": ids + 1}


@family(x=floats(None, 4), ids=whole(0, 5, None))
def scatter_and_segments(own, x, ids):
    h = tf.nn.relu(x) @ own.weight(4, 3)
    return {"sums": tf.math.unsorted_segment_sum(h, ids, 5) * 0.5,
            "spread": tf.scatter_nd(ids[:, None], h, [5, 3]) + 1.0}


# --- types ----------------------------------------------------------------------------------------------


@family(x=whole(0, 50, None, 6), y=whole(1, 9, None, 6))
def int32_only(own, x, y):
    h = (x + y) * 3 - tf.constant(7)
    return {"sum": h, "rest": h % y, "quotient": h // y, "most": tf.reduce_max(tf.maximum(h, x), -1),
            "matrix": tf.matmul(x, y, transpose_b=True)}


@family(x=whole(65_504, 16_000_000, None, 4), y=whole(65_504, 16_000_000, None, 4, dtype=tf.int64))
def big_integers_to_float(own, x, y):
    """Exact in float32, infinite in half precision."""
    short, long = tf.cast(x, tf.float32), tf.cast(y, tf.float32)
    return {"exact": short - 1.0, "scaled": tf.nn.relu(short * 1e-7 + long * 1e-7) + 0.5,
            "back": tf.cast(long + 1.0, tf.int32)}


@family(x=eighths(None, 6), flags=whole(0, 2, None, 6, dtype=tf.bool))
def casts(own, x, flags):
    h = tf.cast(flags, tf.float32) * x + tf.cast(tf.cast(x * 4.0, tf.int32), tf.float32)
    return {"y": h + 1.0, "whole": tf.cast(h * 2.0, tf.int32), "half": tf.cast(tf.nn.relu(h), tf.float16),
            "wide": tf.cast(h, tf.float64) / 3, "byte": tf.cast(h * 2.0 + 40.0, tf.uint8), "flag": tf.cast(h, tf.bool)}


@family(x=floats(None, 8, dtype=tf.float16))
def half_precision(own, x):
    h = tf.nn.relu(x @ tf.cast(own.weight(8, 8), tf.float16)) * 0.5
    return {"half": h + 1.0, "float": tf.nn.softmax(tf.cast(h, tf.float32) * 2.0)}


@family(x=floats(None, 6, dtype=tf.float64))
def double_precision(own, x):
    h = tf.nn.relu(x @ tf.cast(own.weight(6, 4), tf.float64)) * 0.5
    return {"double": h + 1.0, "float": tf.tanh(tf.cast(h, tf.float32) * 2.0) - 1.0}


@family(x=floats(None, 16))
def spectrum(own, x):
    wave = tf.signal.rfft(tf.nn.relu(x) * 2.0)
    return {"power": tf.math.log(1.0 + tf.square(tf.abs(wave))) @ own.weight(9, 4)}


@family(x=floats(None, 8))
def fake_quantized(own, x):
    h = tf.quantization.fake_quant_with_min_max_args(x, -4.0, 4.0)
    kernel = tf.quantization.fake_quant_with_min_max_vars(own.weight(8, 8), -1.0, 1.0, narrow_range=True)
    return {"y": tf.quantization.fake_quant_with_min_max_args(tf.nn.relu(h @ kernel), 0.0, 6.0) + 0.5}


@family(x=floats(None, 8, 8, 3))
def quantized_v2(own, x):
    """The one op by which TF-TRT knows a quantized model."""

    def quantized(value: Any, limit: float) -> Any:
        return tf.raw_ops.QuantizeAndDequantizeV2(input=value, input_min=-limit, input_max=limit, range_given=True)

    h = tf.nn.relu(tf.nn.conv2d(quantized(x, 4.0), quantized(own.weight(3, 3, 3, 4), 1.0), 1, "SAME"))
    return {"y": tf.nn.conv2d(quantized(h, 4.0), quantized(own.weight(3, 3, 4, 2), 1.0), 2, "SAME") + 0.5}


@family(x=floats(None, 8))
def quantized_v4(own, x):
    """What `tf.quantization` makes today, and TF-TRT does not know."""

    def quantized(value: Any, limit: float) -> Any:
        return tf.quantization.quantize_and_dequantize_v2(value, -limit, limit, range_given=True)

    h = tf.nn.relu(quantized(x, 4.0) @ quantized(own.weight(8, 8), 1.0)) * 0.5
    return {"y": quantized(h, 4.0) @ quantized(own.weight(8, 4), 1.0) + 0.5}


# --- shapes --------------------------------------------------------------------------------------------


@family(x=floats(None, None, 4))
def shape_output(own, x):
    h = tf.concat([x * 2.0, tf.nn.relu(x)], 1)
    return {"shape": tf.shape(h), "count": tf.size(h) // 2, "y": tf.reshape(h, [-1, 8])}


@family(x=floats(None, None, 4))
def shape_output_int64(own, x):
    h = tf.concat([x * 2.0, tf.nn.relu(x)], 1)
    return {"shape": tf.shape(h, out_type=tf.int64), "y": h + 1.0}


@family(x=floats(None, 2, 4), keep=whole(0, 2, None))
def unknown_rank(own, x, keep):
    size = tf.boolean_mask(tf.stack([tf.shape(x)[0], 2, 4, 1]), tf.stack([True, True, True, keep[0] > 0]))
    h = tf.nn.relu(tf.reshape(x * 2.0, size)) * 0.5 + 1.0
    return {"y": tf.reshape(h, [-1, 8]) @ own.weight(8, 3)}


@family(x=eighths(None, 6))
def data_dependent_shape(own, x):
    values, places = tf.unique(tf.reshape(tf.nn.relu(x) * 2.0, [-1]))
    return {"y": tf.gather(values * 3.0 + 1.0, places) * 0.25, "positive": tf.boolean_mask(x * 2.0, x > 0.0) + 1.0}


# --- outputs and inputs of unusual kind ----------------------------------------------------------------


@family(x=floats(None, 4))
def identity_output(own, x):
    return {"same": x, "other": tf.nn.relu(x * 2.0) + 1.0}


@family(x=floats(None, 4), text=words(None))
def identity_only(own, x, text):
    return {"x": x, "text": text}


@family(x=floats(None, 4))
def constant_output(own, x):
    return {"y": tf.nn.softmax(x @ own.weight(4, 2)), "scale": tf.constant([0.5, 2.0]) * 2.0,
            "labels": tf.constant([b"no", b"yes"]), "bias": own.weight(2, fan_in=1) + 1.0}


@family(x=floats(None, 4))
def one_tensor_two_outputs(own, x):
    h = tf.nn.relu(x @ own.weight(4, 4)) + 1.0
    return {"first": h, "second": h, "third": h * 2.0}


@family(x=floats(None, 4), unused=floats(None, 3))
def unused_input(own, x, unused):
    return {"y": tf.nn.relu(x @ own.weight(4, 4)) + 1.0}


@family(x=floats(None, 6))
def variables_shared(own, x):
    weight = own.weight(6, 6)
    h = tf.nn.relu(x @ weight) @ tf.transpose(weight)
    return {"y": h + weight[0], "column": tf.linalg.matvec(weight, tf.reduce_mean(h, 0))}


@family(x=floats(None, 4))
def counts_its_calls(own, x):
    calls = own.keep(lambda: tf.Variable(0))
    with tf.control_dependencies([calls.assign_add(1)]):
        return {"y": tf.nn.relu(x @ own.weight(4, 4)) + 1.0}


@family(x=floats(None, 6))
def neighbouring_engines(own, x):
    weight = own.weight(6, 6)
    h = tf.nn.relu(x @ weight) + 1.0
    between = tf.math.lgamma(h + 1.0)  # TensorRT has no such layer
    return {"y": tf.nn.relu(between @ weight) - h * 2.0, "between": between}


@family(x=positive(None, 6))
def assertion(own, x):
    h = x * 2.0
    with tf.control_dependencies([tf.debugging.assert_positive(h, "x must be positive")]):
        return {"y": tf.nn.relu(h @ own.weight(6, 4)) + 1.0}


# --- text and other things that stay in TensorFlow ------------------------------------------------------


@family(text=words(None, 3))
def string_lookup(own, text):
    file = own.scratch / "vocabulary.txt"
    file.write_text("\n".join(WORDS))
    kind = tf.lookup.TextFileIndex
    table = own.keep(lambda: tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(str(file), tf.string, kind.WHOLE_LINE, tf.int64, kind.LINE_NUMBER), 2))
    names = own.keep(lambda: tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.range(4, dtype=tf.int64), ["a", "b", "c", "d"]), "?"))
    h = tf.reduce_mean(tf.gather(own.weight(8, 6, fan_in=1), table.lookup(text)), 1)
    scores = tf.nn.softmax(tf.nn.relu(h @ own.weight(6, 8)) @ own.weight(8, 4))
    return {"scores": scores, "name": names.lookup(tf.argmax(scores, -1))}


@family(text=sentences(None))
def ragged_text(own, text):
    ids = tf.strings.to_hash_bucket_fast(tf.strings.split(tf.strings.lower(text)), 12)
    rows = tf.ragged.map_flat_values(lambda flat: tf.gather(own.weight(12, 6, fan_in=1), flat), ids)
    return {"y": tf.nn.relu(tf.reduce_mean(rows, 1) @ own.weight(6, 6)) + 1.0, "ids": ids.to_tensor(-1),
            "count": ids.row_lengths()}


@family(record=records(None))
def parsed_example(own, record):
    x = tf.io.parse_example(record, {"x": tf.io.FixedLenFeature([6], tf.float32)})["x"]
    return {"y": tf.nn.softmax(tf.nn.relu(x @ own.weight(6, 8)) @ own.weight(8, 3))}


@family(x=floats(None, 8))
def sparse_product(own, x):
    h = tf.sparse.sparse_dense_matmul(tf.sparse.from_dense(tf.nn.relu(x) * 0.5), own.weight(8, 6))
    return {"y": tf.nn.relu(h) @ own.weight(6, 4) + 1.0}


# --- functions, branches, loops, recurrent layers --------------------------------------------------------


@family(x=floats(None, 6))
def function_in_function(own, x):
    weight = own.weight(6, 6)
    inner = tf.function(lambda value: tf.nn.relu(value @ weight) + 1.0, autograph=False)
    return {"y": inner(inner(x) * 0.5) - 1.0}


@family(x=floats(None, 6), way=whole(0, 2, None))
def branch(own, x, way):
    left, right, last = own.weight(6, 6), own.weight(6, 12), own.weight(12, 6)
    h = tf.cond(way[0] > 0, lambda: tf.nn.relu(x @ left) + 1.0, lambda: tf.nn.softmax(tf.tanh(x @ right) @ last))
    return {"y": tf.nn.relu(h * 2.0) - 1.0}


@family(x=floats(None, 6), way=whole(0, 3, None))
def switch(own, x, way):
    weight = own.weight(6, 6)
    h = tf.switch_case(way[0], [lambda: x @ weight + 1.0, lambda: tf.nn.relu(x) * 2.0 - 1.0, lambda: x])
    return {"y": tf.tanh(h * 0.5) + 1.0}


@family(x=floats(None, 6), turns=whole(1, 5, None))
def loop(own, x, turns):
    weight, bias = own.weight(6, 6), own.weight(6, fan_in=10)
    _, h = tf.while_loop(lambda i, h: i < turns[0], lambda i, h: (i + 1, tf.tanh(h @ weight + bias) * 0.9), [0, x])
    return {"y": tf.nn.relu(h) @ own.weight(6, 3) + 1.0}


@family(ids=whole(1, 9, None, 2))
def loop_that_grows(own, ids):
    table, out = own.weight(12, 8, fan_in=1), own.weight(8, 12)

    def step(i: Any, known: Any) -> Any:
        scores = tf.nn.relu(tf.reduce_mean(tf.gather(table, known), 1)) @ out
        return i + 1, tf.concat([known, tf.argmax(scores, -1, tf.int32)[:, None]], 1)

    free = [tf.TensorShape([]), tf.TensorShape([None, None])]
    return {"ids": tf.while_loop(lambda i, known: i < 4, step, [0, ids], shape_invariants=free)[1]}


@family(x=floats(None, 5, 6))
def tensor_array(own, x):
    weight, steps = own.weight(6, 6), tf.transpose(x, [1, 0, 2])

    def step(i: Any, state: Any, seen: Any) -> Any:
        state = tf.tanh(state @ weight + steps[i]) * 0.9
        return i + 1, state, seen.write(i, state)

    *_, seen = tf.while_loop(lambda i, *_: i < 5, step, [0, tf.zeros_like(x[:, 0]), tf.TensorArray(tf.float32, 5)])
    return {"y": tf.transpose(seen.stack(), [1, 0, 2]) * 2.0 + 1.0}


@family(x=floats(None, 4, 6))
def mapped(own, x):
    weight = own.weight(6, 6)
    return {"y": tf.map_fn(lambda row: tf.nn.softmax(tf.nn.relu(row @ weight) + 1.0), x) * 2.0}


@family(x=floats(None, 6))
def branch_in_loop(own, x):
    weight = own.weight(6, 6)

    def step(i: Any, h: Any) -> Any:
        return i + 1, tf.cond(i % 2 > 0, lambda: tf.nn.relu(h @ weight) + 0.5, lambda: tf.tanh(h * 2.0) - 0.25)

    return {"y": tf.while_loop(lambda i, h: i < 3, step, [0, x])[1] * 0.5 + 1.0}


@family(x=floats(None, None, 6))
def lstm(own, x):
    layer = own.layer(lambda: tf.keras.layers.LSTM(8, return_sequences=True), None, None, 6)
    return {"y": tf.nn.relu(layer(x)[:, -1] @ own.weight(8, 4)) + 1.0}


@family(x=floats(None, 5, 6))
def gru(own, x):
    layer = own.layer(lambda: tf.keras.layers.Bidirectional(tf.keras.layers.GRU(6)), None, 5, 6)
    return {"y": tf.nn.softmax(layer(x) @ own.weight(12, 4) * 2.0)}
