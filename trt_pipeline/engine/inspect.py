"""What is in an engine: its layers, and the type that each computes in, as TensorRT's inspector tells it."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from trt_pipeline.engine.availability import load
from trt_pipeline.engine.recipe import LAYERS, Recipe
from trt_pipeline.errors import PipelineError
from trt_pipeline.frozen import Frozen

# Lower first: a layer computes in the lowest of its types, for what it reads in float32 it converts.
_TYPES = (("int8", re.compile(r"\bint8\b", re.IGNORECASE)),
          ("bf16", re.compile(r"\b(bf16|bfloat16)\b", re.IGNORECASE)),
          ("fp16", re.compile(r"\b(fp16|half)\b", re.IGNORECASE)),
          ("fp32", re.compile(r"\b(fp32|float)\b", re.IGNORECASE)))
LOWER = ("fp16", "bf16", "int8")
# They move numbers or make them, and compute nothing.
_MOVING = {"reformat", "noop", "constant", "shape", "shuffle", "signal", "wait", "memcpy", "memset", "cast"}
# Myelin compiles a part of the network as a whole; of its inside version 8 tells only what goes in and out.
_WHOLE = re.compile(r"ForeignNode|^Myelin|myelin", re.IGNORECASE)
_TF32 = re.compile(r"tf32", re.IGNORECASE)


class Layer(Frozen):
    """One layer of an engine."""

    name: str
    kind: str = ""
    precision: str = ""
    """fp32, tf32, fp16, bf16 or int8; empty where it only moves numbers, or none are floating-point or int8."""
    whole: bool = False
    """Whether it is a part of the network that was compiled as one, and types inside may be others."""


class Layers(Frozen):
    """What an engine is made of."""

    layers: tuple[Layer, ...]
    bindings: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Precision -> number of layers that compute in it."""
        return dict(Counter(layer.precision for layer in self.layers if layer.precision))

    @property
    def whole(self) -> int:
        """Number of layers whose inside is not told."""
        return sum(layer.whole for layer in self.layers)


def of(engine: Any) -> Layers:
    """The layers of ``engine``, an ICudaEngine that was built with detailed profiling verbosity."""
    tensorrt = load()
    inspector = engine.create_engine_inspector()
    return parse(inspector.get_engine_information(tensorrt.LayerInformationFormat.JSON))


def parse(text: str) -> Layers:
    """The layers in what the inspector wrote.

    Raises:
        RuntimeError: it is in no format that is known.
    """
    try:
        told = json.loads(text, strict=False)
        rows, bindings = told["Layers"], told.get("Bindings", ())
    except (ValueError, KeyError, TypeError):
        raise RuntimeError(f"TensorRT's inspector wrote what is not known here: {text[:100]}") from None
    return Layers(layers=tuple(map(_layer, rows)),
                  bindings=tuple(one if isinstance(one, str) else str(one.get("Name", "")) for one in bindings))


def check(layers: Layers, recipe: Recipe) -> None:
    """Raise PipelineError where the precision asked for is not in the engine.

    A part that was compiled as a whole may have it out of sight, so where there is one nothing is refused
    for lacking it. A model may have lower types of its own, so of fp32 only TF32 is refused.
    """
    counts = layers.counts
    if recipe.precision == "fp32" and counts.get("tf32"):
        raise PipelineError(f"the engine was asked for in fp32, and {counts['tf32']} of its layers compute in TF32")
    if recipe.precision in LOWER and counts and not counts.get(recipe.precision) and not layers.whole:
        raise PipelineError(
            f"the engine was asked for in {recipe.precision}, and none of its {len(layers.layers)} layers is in it "
            f"({', '.join(f'{count} in {name}' for name, count in counts.items())}): TensorRT found all of them faster "
            "in a higher precision")


def write(layers: Layers, folder: Path) -> None:
    """Write ``layers`` into ``folder``, beside the engine."""
    (folder / LAYERS).write_text(json.dumps(
        {"counts": layers.counts, "compiled as a whole": layers.whole, **layers.model_dump(mode="json")}, indent=1)
        + "\n")


def _layer(row: Any) -> Layer:
    if isinstance(row, str):  # without detail, a layer is its name
        return Layer(name=row, whole=bool(_WHOLE.search(row)))
    name, kind = str(row.get("Name", "")), str(row.get("LayerType", ""))
    whole = bool(_WHOLE.search(name) or _WHOLE.search(kind))
    if kind.lower() in _MOVING or row.get("ParameterType") == "Reformat":
        return Layer(name=name, kind=kind)
    tensors = [*row.get("Inputs", ()), *row.get("Outputs", ())]
    told = [str(one.get("Format/Datatype") or one.get("Datatype") or one.get("Format") or "") for one in tensors]
    weights = row.get("Weights")
    told.append(str(weights.get("Type", "")) if isinstance(weights, dict) else "")
    precision = next((short for short, pattern in _TYPES if any(map(pattern.search, told))), "")
    if precision == "fp32" and _TF32.search(str(row.get("TacticName", ""))):
        precision = "tf32"
    return Layer(name=name, kind=kind, precision=precision, whole=whole)
