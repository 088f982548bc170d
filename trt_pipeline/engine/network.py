"""From an ONNX file to TensorRT's network definition."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trt_pipeline.engine import flags as flag
from trt_pipeline.engine.availability import load
from trt_pipeline.engine.failures import last_words, plain
from trt_pipeline.engine.flags import Flags
from trt_pipeline.engine.log import Message, collected, logger
from trt_pipeline.errors import MissingError, Unsupported

_SHOWN = 5
_NUMBERED = re.compile(r"While parsing node number (?P<number>\d+) \[(?P<operator>\S+)")
_NAME = re.compile(r'^name: "(?P<name>[^"]*)"', re.MULTILINE)
# How the parser of 8 says that it has no such operation: it takes it for a plugin's.
_NO_SUCH = ("Plugin not found", "No importer registered")
_METADATA = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


@dataclass(frozen=True)
class Network:
    """A parsed network, and what must outlive it."""

    builder: Any
    definition: Any
    parser: Any
    """The weights are its."""


class Complaint(NamedTuple):
    """What the parser has against a node."""

    node: str
    operator: str
    description: str

    def __str__(self) -> str:
        unknown = any(known in self.description for known in _NO_SUCH)
        why = "TensorRT has no such operation" if unknown else plain(self.description)
        who = f"node '{self.node}' ({self.operator})" if self.operator else f"node '{self.node}'"
        return f"{who}: {why}" if self.node or self.operator else why


def parse(file: Path, flags: Flags) -> Network:
    """The network of the ONNX ``file``, whose external weights lie beside it.

    Raises:
        MissingError: TensorRT finds no GPU that works, without which it does not even parse.
        Unsupported: TensorRT cannot take the model; names the nodes and why.
    """
    tensorrt = load()
    with collected() as messages:
        try:
            # Not Polygraphy's CreateNetwork: its logger keeps no messages, and they say why.
            builder = tensorrt.Builder(logger())
        except TypeError:
            raise MissingError(f"TensorRT {tensorrt.__version__} cannot start: {last_words(messages)}") from None
        tensorrt.init_libnvinfer_plugins(logger(), "")
        definition = builder.create_network(flag.network_bits(flags, tensorrt))
        parser = tensorrt.OnnxParser(definition, logger())
        if flags.portable:
            # The plugin that 8.6 has for it otherwise is neither of later versions nor of other GPUs.
            parser.set_flag(tensorrt.OnnxParserFlag.NATIVE_INSTANCENORM)
        messages.clear()
        # Not Polygraphy's NetworkFromOnnxPath: it tells only that there were errors.
        if not parser.parse_from_file(str(file)) or parser.num_errors:
            errors = [parser.get_error(number) for number in range(parser.num_errors)]
            raise Unsupported(f"TensorRT {tensorrt.__version__} cannot take {file.name}: "
                              f"{told([complaint(error, messages) for error in errors])}")
    return Network(builder, definition, parser)


def told(complaints: Sequence[Complaint]) -> str:
    """All ``complaints`` on one line, each once."""
    lines = list(dict.fromkeys(map(str, complaints)))
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more if lines else "the file is no ONNX model, or its weights are not beside it"


def complaint(error: Any, messages: Sequence[Message]) -> Complaint:
    """A ParserError of any version; in 8 only the log has the node's name."""
    if hasattr(error, "node_name"):
        return Complaint(error.node_name(), error.node_operator(), error.desc())
    name, operator = node_in_log(error.node(), [message.text for message in messages])
    return Complaint(name, operator, error.desc())


def node_in_log(number: int, texts: Sequence[str]) -> tuple[str, str]:
    """Name and operation of the ``number``-th node, where the parser wrote that it failed there."""
    for place, text in enumerate(texts):
        found = _NUMBERED.search(text)
        if found and int(found["number"]) == number:
            written = _NAME.search("\n".join(texts[place:place + 4]).replace("ModelImporter.cpp:", "\n"))
            return (written["name"] if written else f"number {number}"), found["operator"].rstrip("]:")
    return (f"number {number}" if number >= 0 else ""), ""


def input_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Input -> its shape, -1 for a free dimension.

    Raises:
        Unsupported: an input's values decide shapes inside, so TensorRT wants to know their range.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for tensor in _each(network.definition.num_inputs, network.definition.get_input):
        if tensor.is_shape_tensor:
            raise Unsupported(f"the values of input '{tensor.name}' are shapes inside the engine, and no profile can "
                              "say which: leave this signature to another backend, or make it a constant")
        shapes[tensor.name] = tuple(tensor.shape)
    return shapes


def keep_in_float32(network: Network, names: Collection[str]) -> tuple[str, ...]:
    """Fix the layers of the ONNX nodes ``names`` to float32, their outputs included; returns the nodes not found.

    Not Polygraphy's SetLayerPrecisions: an output that is too large for float16 would still be one.
    """
    tensorrt = load()
    missing = set(names)
    for layer in _each(network.definition.num_layers, network.definition.get_layer):
        of = {layer.name, *_METADATA.findall(getattr(layer, "metadata", ""))} & set(names)
        if not of:
            continue
        missing -= of
        floats = [number for number in range(layer.num_outputs)
                  if layer.get_output(number).dtype == tensorrt.float32]
        if floats:
            layer.precision = tensorrt.float32
        for number in floats:
            layer.set_output_type(number, tensorrt.float32)
    return tuple(sorted(missing))


def rename(network: Network, inputs: Sequence[str], outputs: Sequence[str], new_inputs: Sequence[str],
           new_outputs: Sequence[str]) -> None:
    """Give the network's ``inputs`` and ``outputs`` new names.

    Raises:
        RuntimeError: the network has others.
    """
    definition = network.definition
    for names, fresh, count, get in ((inputs, new_inputs, definition.num_inputs, definition.get_input),
                                     (outputs, new_outputs, definition.num_outputs, definition.get_output)):
        tensors = {tensor.name: tensor for tensor in _each(count, get)}
        if set(tensors) != set(names):
            raise RuntimeError(f"the network has {', '.join(tensors)} where {', '.join(names)} were named")
        for name, other in zip(names, fresh, strict=True):
            tensors[name].name = other


def edge_names(network: Network) -> tuple[list[str], list[str]]:
    """Names of the inputs and of the outputs, in the ONNX file's order."""
    definition = network.definition
    return ([tensor.name for tensor in _each(definition.num_inputs, definition.get_input)],
            [tensor.name for tensor in _each(definition.num_outputs, definition.get_output)])


def _each(count: int, get: Callable[[int], Any]) -> Iterator[Any]:
    return (get(number) for number in range(count))
