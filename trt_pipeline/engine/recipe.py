"""What TensorRT is to make of an ONNX file; it lies beside the file, and is all that a build has to be told."""

from __future__ import annotations

from pathlib import Path

from trt_pipeline import frozen
from trt_pipeline.frozen import Frozen

MODEL = "model.onnx"
PLAN = "model.plan"
"""The engine whose bindings have the signature's names, as Triton serves it."""
GRAFT_PLAN = "graft.plan"
"""The same engine with the binding names that TensorFlow's TRTEngineOp asks for."""
ROUNDED = "rounded.onnx"
"""For ONNX Runtime: float32 with every tensor rounded as the precision rounds it, where MODEL does not do that."""
TIMING_CACHE = "timing.cache"
BUILT_ON = "built_on.json"
LAYERS = "layers.json"
_FILE = "recipe.json"


class Recipe(Frozen):
    """How the ONNX file of one signature (or of the numeric core that was cut out of one) is built."""

    precision: str
    """fp32 (TF32 off), tf32, fp16, bf16 or int8."""
    tensorrt: str
    """The version that it was made for; another one may build it where it asks for precision the same way."""
    typed: bool
    """Whether the graph's own types and Q/DQ say the precision; if not, builder flags do (Q/DQ being in the graph)."""
    fp32_layers: tuple[str, ...] = ()
    """Names of the ONNX nodes that stay in float32 where flags lower the others."""
    narrowed: dict[str, str] = {}
    """Inputs and outputs that the engine has in int32, because its version has no int64, and their own dtype."""
    graft: bool = False
    """Whether to build `GRAFT_PLAN` too."""


def write(recipe: Recipe, folder: Path) -> None:
    """Write ``recipe`` into ``folder``, beside its ONNX file."""
    (folder / _FILE).write_text(recipe.model_dump_json(indent=2) + "\n")


def read(folder: Path) -> Recipe:
    """The recipe in ``folder``.

    Raises:
        InputError: there is none, or another version wrote it.
    """
    return frozen.read(Recipe, folder / _FILE, outdated="convert the model again",
                       absent=f"{folder} has no {_FILE}: it is no candidate of the backend tensorrt")
