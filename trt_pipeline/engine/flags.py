"""Which of TensorRT's flags make the precision of a recipe: by name, so that they can be told without TensorRT."""

from __future__ import annotations

from typing import Any

from trt_pipeline.engine import generation
from trt_pipeline.engine.generation import Version
from trt_pipeline.engine.options import FIRST_COMPATIBLE, Options
from trt_pipeline.engine.recipe import Recipe
from trt_pipeline.errors import Unsupported
from trt_pipeline.frozen import Frozen

# Precision -> its flag. TF32 is on in a new builder configuration, so all but tf32 clear it.
_LOWERED = {"fp16": "FP16", "bf16": "BF16", "int8": "INT8"}
PRECISION_FLAGS = ("TF32", "FP16", "BF16", "INT8")
OBEY, PREFER = "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"
# Before it, networks without this flag have an implicit batch axis; since, none has, and later the flag goes.
_ALWAYS_EXPLICIT = (10, 0)
_LEVEL = "AMPERE_PLUS"
_AMPERE = (8, 0)
_SINCE_AMPERE = ("tf32", "bf16")


class Flags(Frozen):
    """What a network is created with, and an IBuilderConfig is told."""

    network: tuple[str, ...] = ()
    """Names of NetworkDefinitionCreationFlag."""
    on: tuple[str, ...] = ()
    """Names of BuilderFlag to set."""
    off: tuple[str, ...] = ()
    """Names of BuilderFlag to clear."""
    hardware_compatibility: str = ""
    """Name of HardwareCompatibilityLevel."""
    optimization_level: int | None = None

    @property
    def portable(self) -> bool:
        """Whether the engine may meet another GPU or a later version."""
        return bool(self.hardware_compatibility) or "VERSION_COMPATIBLE" in self.on


def of(recipe: Recipe, version: str, options: Options) -> Flags:
    """The flags with which TensorRT ``version`` follows ``recipe``.

    Raises:
        Unsupported: that version asks for precision in another way, or has not what is asked.
    """
    number = generation.parse_version(version)
    _check_generation(recipe, version, number)
    _check_compatibility(options, version, number)
    network = ["EXPLICIT_BATCH"] if number < _ALWAYS_EXPLICIT else []
    on = ["TF32"] if recipe.precision == "tf32" else []
    if recipe.typed:
        network.append("STRONGLY_TYPED")
    elif recipe.precision in _LOWERED:
        on.append(_LOWERED[recipe.precision])
        if recipe.fp32_layers:
            on.append(OBEY)
    if options.version_compatible:
        on.append("VERSION_COMPATIBLE")
    return Flags(network=tuple(network), on=tuple(on), off=() if "TF32" in on else ("TF32",),
                 hardware_compatibility=_LEVEL if options.hardware_compatible else "",
                 optimization_level=options.builder_optimization_level)


def check_gpu(recipe: Recipe, options: Options, gpu: str, compute_capability: str) -> None:
    """Raise Unsupported where the GPU has not what is asked for; TensorRT would build something else without a word."""
    if tuple(map(int, compute_capability.split("."))) >= _AMPERE:
        return
    asked = recipe.precision if recipe.precision in _SINCE_AMPERE else ""
    if asked or options.hardware_compatible:
        raise Unsupported(f"{asked or 'hardware_compatible'} needs a GPU of compute capability 8.0 or later, and "
                          f"{gpu} has {compute_capability}")


def yielding(flags: Flags) -> Flags:
    """``flags`` that allow a layer another precision where it has no implementation in the one it was given."""
    return flags.model_copy(update={"on": tuple(PREFER if name == OBEY else name for name in flags.on)})


def network_bits(flags: Flags, tensorrt: Any) -> int:
    """``flags.network`` as `Builder.create_network` takes them."""
    return sum(1 << int(getattr(tensorrt.NetworkDefinitionCreationFlag, name)) for name in flags.network)


def arguments(flags: Flags, tensorrt: Any) -> dict[str, Any]:
    """``flags`` as the arguments of Polygraphy's `CreateConfig`, which sets them in every version."""
    return {
        **{name.lower(): name in flags.on for name in PRECISION_FLAGS},
        "precision_constraints": {OBEY: "obey", PREFER: "prefer"}.get(
            next((name for name in flags.on if name in (OBEY, PREFER)), "")),
        "version_compatible": "VERSION_COMPATIBLE" in flags.on,
        "builder_optimization_level": flags.optimization_level,
        "hardware_compatibility_level": getattr(tensorrt.HardwareCompatibilityLevel, flags.hardware_compatibility)
        if flags.hardware_compatibility else None}


def check_applied(flags: Flags, config: Any, tensorrt: Any) -> None:
    """Raise RuntimeError where ``config``, an IBuilderConfig, is not as ``flags`` have it."""
    for name in (*PRECISION_FLAGS, OBEY, PREFER, "VERSION_COMPATIBLE"):
        known = getattr(tensorrt.BuilderFlag, name, None)
        has = known is not None and bool(config.get_flag(known))
        if has != (name in flags.on):
            raise RuntimeError(f"TensorRT {tensorrt.__version__} has {name} {'set' if has else 'cleared'} where "
                               f"{' '.join(flags.on) or 'no flag'} was asked for")


def _check_generation(recipe: Recipe, version: str, number: Version) -> None:
    again = f"convert again with backends.tensorrt.options.tensorrt: '{'.'.join(version.split('.')[:2])}'"
    if recipe.typed != generation.typed(number):
        ways = {True: "types in the graph", False: "builder flags"}
        raise Unsupported(f"converted for TensorRT {recipe.tensorrt}, whose precision is in {ways[recipe.typed]}, and "
                          f"this is {version}, where it is in {ways[not recipe.typed]}: {again}")
    if recipe.precision == "bf16" and not generation.has_bfloat16(number):
        raise Unsupported(f"TensorRT {version} has no bf16: use 9.0 or later, or fp16")


def _check_compatibility(options: Options, version: str, number: Version) -> None:
    asked = [name for name in ("builder_optimization_level", "hardware_compatible", "version_compatible")
             if getattr(options, name) not in (None, False)]
    if asked and number < FIRST_COMPATIBLE:
        raise Unsupported(f"TensorRT {version} has no {asked[0]}: use 8.6 or later, or leave the option out")
