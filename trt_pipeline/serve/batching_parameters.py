"""TensorFlow Serving's ``--batching_parameters_file``: read, checked as the server does, and written."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen

_Positive = Annotated[int, Field(gt=0, lt=2**31)]
# Field -> number and type, as tensorflow_serving/servables/tensorflow/session_bundle_config.proto of 2.14.1 has
# them; the package tensorflow-serving-api lacks that file. The first kind is a message with a field `value`.
_WRAPPED = {"max_batch_size": (1, "Int64Value"), "batch_timeout_micros": (2, "Int64Value"),
            "max_enqueued_batches": (3, "Int64Value"), "num_batch_threads": (4, "Int64Value"),
            "thread_pool_name": (5, "StringValue"), "enable_large_batch_splitting": (8, "BoolValue"),
            "max_execution_batch_size": (9, "Int64Value")}


class BatchingParameters(Frozen):
    """How requests of one signature are put together. What is None is left to the server's default.

    Sizes are rows, the length of the inputs' leading axis.
    """

    max_batch_size: _Positive = 1000
    """Most rows of a batch, and of a single request."""
    batch_timeout_micros: int = Field(default=0, ge=0, lt=2**62)
    """How long a batch that is not full waits for more, though a thread is free."""
    max_enqueued_batches: _Positive = 10
    """Full batches that may wait, of each signature; what comes then is refused."""
    num_batch_threads: _Positive | None = None
    """Batches that run at once; as many as there are cores by default."""
    thread_pool_name: str | None = None
    enable_large_batch_splitting: bool = False
    """Whether requests may be cut, so as to keep to ``max_execution_batch_size``."""
    max_execution_batch_size: _Positive | None = None
    """Most rows of a batch where requests may be cut; ``max_batch_size`` by default."""
    allowed_batch_sizes: tuple[_Positive, ...] = ()
    """Ascending; a batch is filled up with copies of a row to the next of them."""
    pad_variable_length_inputs: bool = False
    """Whether inputs of different lengths share a batch: each is lengthened with copies of its own first value."""

    @model_validator(mode="after")
    def _as_the_server_wants_them(self) -> BatchingParameters:
        sizes = self.allowed_batch_sizes
        if any(later <= earlier for earlier, later in pairwise(sizes)):
            raise ValueError(f"allowed_batch_sizes must be in increasing order; they are {_listed(sizes)}")
        if sizes and sizes[-1] != self.max_batch_size:
            raise ValueError("the last entry in allowed_batch_sizes must match max_batch_size; "
                             f"it is {sizes[-1]}, expected {self.max_batch_size}")
        if self.max_execution_batch_size and self.max_execution_batch_size > self.max_batch_size:
            raise ValueError(f"max_execution_batch_size {self.max_execution_batch_size} is larger than "
                             f"max_batch_size {self.max_batch_size}")
        return self

    @property
    def largest_batch(self) -> int:
        """The most rows that run together."""
        return (self.enable_large_batch_splitting and self.max_execution_batch_size) or self.max_batch_size

    def filled(self, rows: int) -> int:
        """What a batch of ``rows`` rows is filled up to."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def read(path: Path) -> BatchingParameters:
    """The parameters in the text proto ``path``.

    Raises:
        ConfigError: it cannot be read, is no BatchingParameters, or the server would not take it.
    """
    from google.protobuf import text_format

    try:
        message = text_format.Parse(path.read_text("utf-8"), _message_class()())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: name a file of batching parameters") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text: write BatchingParameters as TensorFlow Serving reads them") from None
    except text_format.ParseError as error:
        raise ConfigError(f"{path}:{error}: it must be TensorFlow Serving's BatchingParameters") from None
    given: dict[str, Any] = {name: getattr(message, name).value for name in _WRAPPED if message.HasField(name)}
    given["allowed_batch_sizes"] = tuple(message.allowed_batch_sizes)
    given["pad_variable_length_inputs"] = message.pad_variable_length_inputs
    try:
        return BatchingParameters.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{first['loc'][0]}: " if first["loc"] else ""
        raise ConfigError(f"{path}: {where}{first['msg'].removeprefix('Value error, ')}") from None


def text(parameters: BatchingParameters) -> str:
    """``parameters`` as the text proto that TensorFlow Serving reads; only what was set."""
    from google.protobuf import text_format

    message = _message_class()()
    for name, value in parameters.model_dump(exclude_unset=True, exclude_none=True).items():
        if name == "allowed_batch_sizes":
            message.allowed_batch_sizes.extend(value)
        elif name in _WRAPPED:
            getattr(message, name).value = value
        else:
            setattr(message, name, value)
    # As it stands in the file, max_batch_size is what the last allowed size is compared with.
    if parameters.allowed_batch_sizes:
        message.max_batch_size.value = parameters.max_batch_size
    written: str = text_format.MessageToString(message)
    return written


@cache
def _message_class() -> Any:
    """``tensorflow.serving.BatchingParameters``, in a pool of its own: the server's file may be in the common one."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

    file = descriptor_pb2.FileDescriptorProto(
        name="batching_parameters.proto", package="tensorflow.serving", syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name])
    message = file.message_type.add(name="BatchingParameters")
    field = descriptor_pb2.FieldDescriptorProto
    for name, (number, wrapper) in _WRAPPED.items():
        message.field.add(name=name, number=number, label=field.LABEL_OPTIONAL, type=field.TYPE_MESSAGE,
                          type_name=f".google.protobuf.{wrapper}")
    message.field.add(name="allowed_batch_sizes", number=6, label=field.LABEL_REPEATED, type=field.TYPE_INT64)
    message.field.add(name="pad_variable_length_inputs", number=7, label=field.LABEL_OPTIONAL, type=field.TYPE_BOOL)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters"))


def _listed(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes))
