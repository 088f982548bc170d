"""The original's own noise: how far its outputs move when nothing of it changes.

Three measurements, each against the reference outputs: the same run again, runs on one thread and
on all, and a run in float64 where TensorFlow has the kernels. The largest, as a share of the
output's largest magnitude, is the noise floor, from which the default fp32 tolerance follows
(`tolerance.tolerance_from_floor`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.errors import Unsupported, one_line
from trt_pipeline.frozen import Frozen
from trt_pipeline.parity.compare import is_mask
from trt_pipeline.parity.float64 import to_float64

Array = npt.NDArray[Any]
Run = Callable[[dict[str, Array]], dict[str, Array]]


class NoiseFloor(Frozen):
    """Noise of one output, as a share of its largest magnitude, by what was varied.

    None where a variation could not be run; ``without`` says why.
    """

    repeat: float | None = None
    threads: float | None = None
    float64: float | None = None
    without: str = ""

    @property
    def floor(self) -> float:
        """The largest of what was measured."""
        return max((x for x in (self.repeat, self.threads, self.float64) if x is not None), default=0.0)


def measure(model: Path, tags: tuple[str, ...], signature: str, function: Any,
            cases: list[tuple[dict[str, Array], dict[str, Array]]], scales: dict[str, float],
            repeat: Run) -> dict[str, NoiseFloor]:
    """Noise floors of the float outputs of one signature.

    Args:
        function: the loaded signature, for freezing.
        cases: (feeds, reference outputs) pairs.
        scales: output -> its largest finite magnitude over all cases.
        repeat: runs the original once more.
    """
    floats = [name for name, value in cases[0][1].items() if value.dtype.kind == "f"]
    if not floats:
        return {}
    found: dict[str, dict[str, Any]] = {name: {} for name in floats}

    def record(kind: str, run: Run) -> None:
        for name, value in _noise(run, cases, floats, scales).items():
            found[name][kind] = max(value, found[name].get(kind) or 0.0)

    for _ in range(2):  # a seeded random operation says the same again only on the first run after loading
        record("repeat", repeat)
    for threads in sorted({1, os.cpu_count() or 1}):
        with _session(model, tags, signature, threads) as run:
            record("threads", run)
    try:
        with _float64_session(function) as run:
            record("float64", run)
    except Exception as error:  # whatever TensorFlow lacks, the other measurements stand
        reason = one_line(error, longest=160)
        for values in found.values():
            values["without"] = f"no float64 run: {reason}"
    return {name: NoiseFloor(**values) for name, values in found.items()}


def _noise(run: Run, cases: list[tuple[dict[str, Array], dict[str, Array]]], floats: list[str],
           scales: dict[str, float]) -> dict[str, float]:
    worst: dict[str, float] = {}
    for feeds, reference in cases:
        outputs = run(feeds)
        # Where a decision flipped (a token, a class), floats differ by more than noise.
        if any(not np.array_equal(outputs[n], reference[n]) for n in reference if reference[n].dtype.kind in "iu"):
            continue
        for name in floats:
            if outputs[name].shape == reference[name].shape:
                finite = np.isfinite(outputs[name]) & np.isfinite(reference[name]) & ~is_mask(reference[name])
                error = np.abs(outputs[name].astype(np.float64) - reference[name])[finite]
                noise = float(error.max()) / scales[name] if error.size and scales[name] else 0.0
                worst[name] = max(noise, worst.get(name, 0.0))
    return worst


@contextmanager
def _session(model: Path, tags: tuple[str, ...], signature: str, threads: int) -> Iterator[Run]:
    """The original in a session with a thread pool of its own."""
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1,
                                      use_per_session_threads=True)
    with tf.Graph().as_default(), tf.compat.v1.Session(config=config) as session:
        meta_graph = tf.compat.v1.saved_model.load(session, list(tags), str(model))
        proto = meta_graph.signature_def[signature]
        outputs = {name: info.name for name, info in proto.outputs.items()}

        def run(feeds: dict[str, Array]) -> dict[str, Array]:
            values = session.run(outputs, {proto.inputs[name].name: value for name, value in feeds.items()})
            return {name: np.asarray(value) for name, value in values.items()}

        yield run


@contextmanager
def _float64_session(function: Any) -> Iterator[Run]:
    import tensorflow as tf

    from trt_pipeline.conversion.freeze import freeze
    from trt_pipeline.conversion.weights import strip_weights

    frozen = freeze(function)
    if frozen.resources:
        raise Unsupported("it uses look-up tables")
    # Weights are fed, not part of the graph: TensorFlow keeps several copies of a graph.
    graph_def, weights = strip_weights(frozen.graph_def)
    inputs, outputs = frozen.inputs, frozen.outputs
    del frozen  # its graph still holds the memory of the weights
    fed = {f"{name}:0": weights.pop(name).astype(np.float64) for name in list(weights)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(to_float64(graph_def), name="")

        def run(feeds: dict[str, Array]) -> dict[str, Array]:
            doubled = {inputs[name]: value.astype(np.float64) if value.dtype == np.float32 else value
                       for name, value in feeds.items()}
            values = session.run(outputs, fed | doubled)
            return {name: np.asarray(value) for name, value in values.items()}

        yield run
