"""Warm-up: the requests that a SavedModel brings along are run before its first client's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from trt_pipeline.backends.base import Array
from trt_pipeline.model.contract import DEFAULT_SIGNATURE
from trt_pipeline.publish.warm_up import MOST_RECORDS, RECORDS
from trt_pipeline.serve import example_protos
from trt_pipeline.serve.refusal import Code, RefusalError, invalid

if TYPE_CHECKING:
    from trt_pipeline.serve.servable import Servable

_log = logging.getLogger(__name__)
_EXAMPLES = "inputs"


def replay(servable: Servable) -> int:
    """Run every record of ``assets.extra/tf_serving_warmup_requests``; how many that were, 0 without such a file.

    Raises:
        RefusalError: a record is damaged, of an unknown kind or fails, or there are more than 1000: TensorFlow Serving
            does not serve the version then.
    """
    file = servable.folder / RECORDS
    if not file.is_file():
        return 0
    count = 0
    for record in _records(str(file)):
        for signature, feeds in _requests(record, str(file)):
            servable.infer(signature or DEFAULT_SIGNATURE, feeds)
        count += 1
        if count > MOST_RECORDS:
            raise invalid(f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {file}")
    _log.info("model %s version %d: %d warm-up records", servable.name, servable.version, count)
    return count


def _records(file: str) -> Iterator[bytes]:
    import tensorflow as tf

    try:
        yield from tf.data.TFRecordDataset(file).as_numpy_iterator()
    except tf.errors.DataLossError as error:
        raise RefusalError(Code.DATA_LOSS, f"{error.message}. Please verify your warmup data is in TFRecord "
                                           f"format: {file}") from None


def _requests(record: bytes, file: str) -> Iterator[tuple[str, dict[str, Array]]]:
    """The signature and the inputs of each call that a record stands for."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    from trt_pipeline.serve import tensor_protos

    log = prediction_log_pb2.PredictionLog()
    try:
        log.ParseFromString(record)
    except DecodeError:
        raise invalid(f"Failed to parse warmup record: {record[:40]!r} from {file}") from None
    kind = log.WhichOneof("log_type")
    if kind is None:
        return
    request: Any = getattr(getattr(log, kind), "request", None)
    if kind == "predict_log":
        yield request.model_spec.signature_name, tensor_protos.to_arrays(request.inputs)
    elif kind in ("classify_log", "regress_log"):
        yield request.model_spec.signature_name, {_EXAMPLES: _examples(request.input)}
    elif kind == "multi_inference_log":
        for task in request.tasks:
            yield task.model_spec.signature_name, {_EXAMPLES: _examples(request.input)}
    else:
        raise RefusalError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind} in {file}")


def _examples(given: Any) -> Array:
    return np.array(example_protos.serialized(given), object)
