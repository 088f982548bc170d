"""Tolerances: what one output may differ by, and the gate that holds them for a whole model."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from trt_pipeline.frozen import Frozen

# How far each reduced precision may leave the original by default, as a share of the output's
# largest magnitude, and the signal-to-noise ratio (dB) that it must keep. fp16 and int8 follow the
# bounds that TensorFlow's own TF-TRT integration tests use (1e-2 and 1e-1); bf16 has 8 bits of
# significand, three fewer than fp16. fp32 has no entry: its bound is measured (see `noise`).
PRECISION_BOUNDS: dict[str, tuple[float, float]] = {
    "tf32": (1e-2, 40.0),
    "fp16": (1e-2, 40.0),
    "bf16": (5e-2, 30.0),
    "int8": (1e-1, 20.0),
}


class Close(Frozen):
    """Floats: ``|candidate - original| <= atol + rtol * |original| + scaled * max|original|``.

    Elements of 1e8 and more are masks, not values: they count neither for the maximum nor for the
    SNR and are bounded by ``scaled`` of themselves. The SNR is over what varies, so an offset is no signal.
    NaN and infinity must stand in the same places. ``cosine`` and ``snr_db`` are floors on the
    whole output, where given; alone, they bound no single element.
    """

    atol: float = Field(0.0, ge=0)
    rtol: float = Field(0.0, ge=0)
    scaled: float = Field(0.0, ge=0)
    cosine: float | None = Field(None, ge=-1, le=1)
    snr_db: float | None = None

    @property
    def floors_only(self) -> bool:
        """Whether only the output as a whole is bounded."""
        floors = self.cosine is not None or self.snr_db is not None
        return floors and not (self.atol or self.rtol or self.scaled)

    def __str__(self) -> str:
        parts = [f"{name} {value:.3g}" for name, value in
                 (("atol", self.atol), ("rtol", self.rtol), ("scaled", self.scaled)) if value]
        parts += [f"{name} >= {value:g}" for name, value in
                  (("cosine", self.cosine), ("SNR dB", self.snr_db)) if value is not None]
        return "close: " + (", ".join(parts) or "equal")


class Match(Frozen):
    """Token ids: the share of tokens, and of whole sequences (rows), that are equal.

    With ``pad``, widths may differ: the shorter side is filled with it, and places where both
    sides hold it are not counted.
    """

    tokens: float = Field(1.0, ge=0, le=1)
    sequences: float = Field(0.0, ge=0, le=1)
    pad: int | None = None

    def __init__(self, tokens: float = 1.0, **fields: Any) -> None:
        super().__init__(**{"tokens": tokens, **fields})

    def __str__(self) -> str:
        text = f"match: tokens >= {self.tokens:g}"
        return text + (f", sequences >= {self.sequences:g}" if self.sequences else "")


class TopK(Frozen):
    """Class scores: the share of rows whose ``k`` largest entries (last axis) are the same set."""

    k: int = Field(1, ge=1)
    agreement: float = Field(1.0, ge=0, le=1)

    def __str__(self) -> str:
        return f"top-{self.k}: rows >= {self.agreement:g}"


class OutputGate(Frozen):
    """All that one output has to keep; every part that is given must hold."""

    exact: bool = False
    close: Close | None = None
    match: Match | None = None
    top_k: TopK | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_tolerances(cls, value: Any) -> Any:
        """Accept a bare tolerance, or a list of them, as Python callers write it."""
        given = value if isinstance(value, (list, tuple)) else [value]
        names: dict[type, str] = {Close: "close", Match: "match", TopK: "top_k"}
        if given and all(type(item) in names for item in given):
            if len({type(item) for item in given}) < len(given):
                raise ValueError("give one tolerance of each kind: two of one kind would hide the first")
            return {names[type(item)]: item for item in given}
        return value

    @model_validator(mode="after")
    def _not_empty(self) -> OutputGate:
        if not (self.exact or self.close or self.match or self.top_k):
            raise ValueError("give at least one of exact, close, match, top_k")
        return self

    def __str__(self) -> str:
        parts = ["exact"] if self.exact else []
        return "; ".join(parts + [str(part) for part in (self.close, self.match, self.top_k) if part])


class MetricBound(Frozen):
    """What a user's metric has to keep: its value alone, or against the original's. All that is given must hold."""

    min: float | None = None
    max: float | None = None
    max_drop: float | None = Field(None, ge=0)
    """How far below the original's value it may be."""
    max_rise: float | None = Field(None, ge=0)
    """How far above it."""
    higher_is_better: bool = True
    """Which way figures and Pareto fronts take it; by default down where only ``max`` or ``max_rise`` is given."""

    @model_validator(mode="before")
    @classmethod
    def _direction(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "higher_is_better" in value:
            return value
        downwards = {"max", "max_rise"} & set(value) and not {"min", "max_drop"} & set(value)
        return {**value, "higher_is_better": not downwards}

    @property
    def given(self) -> bool:
        """Whether there is any bound, and not only a direction."""
        return any(bound is not None for bound in (self.min, self.max, self.max_drop, self.max_rise))

    def __str__(self) -> str:
        parts = ((">=", self.min, ""), ("<=", self.max, ""), ("a drop of at most", self.max_drop, " from the original"),
                 ("a rise of at most", self.max_rise, " from the original"))
        return ", ".join(f"{word} {bound:g}{where}" for word, bound, where in parts if bound is not None)


class Gate(Frozen):
    """The bounds that every candidate has to keep.

    ``outputs`` holds for every precision; ``precisions`` overrides it for one of them. Outputs
    are named ``output`` or, where two signatures share a name, ``signature.output``. An output
    that is not named gets the default of its dtype and precision.
    """

    outputs: dict[str, OutputGate] = {}
    precisions: dict[str, dict[str, OutputGate]] = {}
    metrics: dict[str, MetricBound] = {}
    """Bounds on metrics of the user's own (`metrics.metric`), by name."""

    def resolve(self, signature: str, output: str, dtype: str, precision: str, noise_floor: float) -> OutputGate:
        """The gate of one output.

        Args:
            dtype: the contract's name of the output's dtype ("float32", "int64", "string", ...).
            noise_floor: the original's own noise in this output, as a share of its largest magnitude.
        """
        for table in (self.precisions.get(precision, {}), self.outputs):
            for key in (f"{signature}.{output}", output):
                if key in table:
                    return table[key]
        return default_gate(dtype, precision, noise_floor)


def default_gate(dtype: str, precision: str, noise_floor: float) -> OutputGate:
    """The gate of an output for which the config says nothing: floats close, all else exact."""
    if not dtype.startswith(("float", "bfloat", "half", "double", "complex")):
        return OutputGate(exact=True)
    if precision in PRECISION_BOUNDS:
        scaled, snr_db = PRECISION_BOUNDS[precision]
        return OutputGate(close=Close(scaled=scaled, snr_db=snr_db))
    return OutputGate(close=Close(scaled=tolerance_from_floor(noise_floor, dtype)))


# A candidate's kernels add in another order than the original's, so its error is of the floor's
# size but not its sign: twice the floor is expected, and 8 leaves room for longer chains.
FLOOR_MARGIN = 8.0
# A measured floor of zero only says that every run took the same path. 2^-20 is 8 rounding
# steps of float32 (2^-23), what a sum of a few dozen terms loses when it is reordered.
SMALLEST_FLOOR = 2.0 ** -20


# Outputs of a narrower dtype cannot agree to more than its rounding step.
_SMALLEST_FLOORS = {"float16": 2.0 ** -11, "bfloat16": 2.0 ** -8}
# An original that does not agree with itself must not make the gate meaningless.
LARGEST_DEFAULT = 1e-2


def tolerance_from_floor(noise_floor: float, dtype: str = "float32") -> float:
    """The default fp32 bound, as a share of the output's largest magnitude."""
    smallest = _SMALLEST_FLOORS.get(dtype, SMALLEST_FLOOR)
    return FLOOR_MARGIN * max(min(noise_floor, LARGEST_DEFAULT / FLOOR_MARGIN), smallest)
