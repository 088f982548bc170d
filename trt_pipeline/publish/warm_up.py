"""Requests that a server runs before a version counts as loaded, so that no client waits for what comes at first.

They are made of real samples: shortest and longest, one and many in a batch. Zeros are no sentence and no tf.Example,
and TensorFlow Serving does not load a version whose own requests fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.model.contract import CLASSIFY_METHOD, REGRESS_METHOD, WARM_UP, SignatureContract
from trt_pipeline.samples.profiles import Profile
from trt_pipeline.samples.profiles import feeds as profile_feeds
from trt_pipeline.samples.store import Samples

Array = npt.NDArray[Any]
Feeds = dict[str, Array]
RECORDS = f"assets.extra/{WARM_UP}"
"""Where TensorFlow Serving looks for them in a version's folder."""
MOST_RECORDS = 1000
"""It loads no version that has more."""
_MOST_BYTES = 64 * 2**20
# Method name -> the log of its requests, and dtypes of the outputs that it can have.
_OF_EXAMPLES = {CLASSIFY_METHOD: ("classify_log", {"classes": "string", "scores": "float32"}),
                REGRESS_METHOD: ("regress_log", {"outputs": "float32"})}


def requests(contract: SignatureContract, samples: Samples, sizes: Sequence[int],
             profiles: Sequence[Profile] = ()) -> list[Feeds]:
    """Inputs of one signature by name, batch axis first, smallest first; no two have the same shapes.

    Args:
        sizes: batch sizes, where the signature's is free.
        profiles: shapes to make besides, by repeating and cutting samples.
    """
    shown = [feeds | contract.left_out(feeds) for feeds in _shown(contract, samples, sizes)]
    shown += profile_feeds(tuple(profiles), contract, shown[0])
    found = {tuple((name, value.shape) for name, value in sorted(feeds.items())): feeds for feeds in reversed(shown)}
    return sorted(found.values(), key=_bytes)


def _shown(contract: SignatureContract, samples: Samples, sizes: Sequence[int]) -> Iterator[Feeds]:
    count = max(len(samples), 1)
    if contract.fixed_batch is not None or not contract.batched:
        yield samples.take([row % count for row in range(contract.fixed_batch or count)])
        return
    corners = [int(np.argmin(samples.lengths)), int(np.argmax(samples.lengths))] if samples.padded else []
    for size in sizes:
        if corners:
            yield from (samples.take([row] * size) for row in corners)
        else:
            yield samples.take([row % count for row in range(size)])


def write(file: Path, name: str, by_signature: Mapping[str, Sequence[Feeds]],
          contracts: Mapping[str, SignatureContract]) -> int:
    """Write the requests of model ``name`` as TensorFlow Serving's records; returns how many there are.

    A signature's smallest come first, and what would make the file too large is left out.
    """
    import tensorflow as tf

    logs = [_log(name, contracts[signature], feeds) for signature, every in by_signature.items() for feeds in every]
    file.parent.mkdir(parents=True, exist_ok=True)
    total = written = 0
    with tf.io.TFRecordWriter(str(file)) as stream:
        for log in sorted(logs, key=len)[:MOST_RECORDS]:
            total += len(log)
            if total > _MOST_BYTES and written:
                break
            stream.write(log)
            written += 1
    return written


def _log(name: str, contract: SignatureContract, feeds: Feeds) -> bytes:
    """One request as a serialized PredictionLog: of the signature's method, where it can be asked by that."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    if kind := _of_examples(contract):
        request = getattr(log, kind).request
        for text in np.ravel(feeds["inputs"]):
            request.input.example_list.examples.add().ParseFromString(text)
    else:
        request = log.predict_log.request
        for key, value in feeds.items():
            dtype = tf.dtypes.as_dtype(contract.inputs[key].dtype)
            plain = value if dtype == tf.string else np.asarray(value).astype(dtype.as_numpy_dtype)
            request.inputs[key].CopyFrom(tf.make_tensor_proto(plain, dtype=dtype))
    request.model_spec.name, request.model_spec.signature_name = name, contract.name
    data: bytes = log.SerializeToString(deterministic=True)
    return data


def _of_examples(contract: SignatureContract) -> str:
    """The log of the signature's method; empty where it can only be asked to predict."""
    log, outputs = _OF_EXAMPLES.get(contract.method_name, ("", {}))
    takes = {name: tensor.dtype for name, tensor in contract.inputs.items()} == {"inputs": "string"}
    gives = all(outputs.get(name) == tensor.dtype for name, tensor in contract.outputs.items())
    return log if takes and gives else ""


def _bytes(feeds: Feeds) -> int:
    return sum(len(text) for value in feeds.values() if value.dtype == object for text in np.ravel(value)) + sum(
        value.nbytes for value in feeds.values())
