"""Judge one candidate: run it on every case, compare with the original, apply the gate."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from trt_pipeline import vocabulary
from trt_pipeline.backends.base import Runner
from trt_pipeline.errors import one_line
from trt_pipeline.frozen import Frozen
from trt_pipeline.parity import reference as references
from trt_pipeline.parity.compare import OutputComparison, OutputVerdict
from trt_pipeline.parity.excerpt import Excerpt, excerpt
from trt_pipeline.parity.reference import Reference
from trt_pipeline.parity.tolerance import FLOOR_MARGIN, LARGEST_DEFAULT, Gate
from trt_pipeline.samples.store import Samples
from trt_pipeline.vocabulary import Vocabulary

Progress = Callable[[int, int], None]


class Verdict(Frozen):
    """Whether a candidate passes its gate, output by output."""

    passed: bool
    reason: str
    outputs: tuple[OutputVerdict, ...]
    estimate: Estimate | None = None
    """Set where the candidate itself could not run here, and something else was judged in its place."""

    @property
    def error(self) -> float | None:
        """The largest error of any output; None where an output could not be compared at all.

        Floats count their largest scaled error, tokens the share that differs.
        """
        if not all(output.figures for output in self.outputs):
            return None
        whole = [output.figures[0] for output in self.outputs]
        return max([0.0, *(f.max_scaled for f in whole if f.max_scaled is not None),
                    *(1 - f.token_match for f in whole if f.token_match is not None)])


class Estimate(Frozen):
    """What a verdict rests on that was reached without running the candidate itself."""

    pending: str
    """Why the candidate cannot run here."""
    surgery: SurgeryVerdict | None
    """None where the graph has its precision in it: then the estimate is of both."""
    missing: str = ""
    """Why there is no estimate of what the precision does, and only the surgery was judged."""
    overflows: dict[str, float] = {}
    """Tensor -> largest magnitude, for those beyond what FP16 can hold (65504), largest first."""
    underflows: tuple[str, ...] = ()
    """Tensors of which FP16 would leave nothing but zeros."""


class SurgeryVerdict(Frozen):
    """Whether the rewritten graph, run in float32, still is the original."""

    passed: bool
    reason: str
    error: float | None
    """As `Verdict.error`."""


def judge(runner: Runner, reference: Reference, folder: Path, samples: dict[str, Samples], gate: Gate,
          precision: str, progress: Progress = lambda done, total: None,
          vocabularies: Mapping[str, Vocabulary] | None = None) -> Verdict:
    """Compare an active ``runner`` with the reference outputs in ``folder``, matched by name.

    A candidate that raises on a case, lacks an output or has one too many is rejected, not failed:
    it is wrong, and the reason says where.

    Args:
        vocabularies: by input or output (`vocabulary.of`), to decode the worst samples with.
    """
    words = vocabularies or {}
    comparisons = {
        (signature, name): OutputComparison(
            signature, name, gate.resolve(signature, name, known.dtype, precision, known.noise.floor), known.scale,
            vocabulary.of(words, signature, name))
        for signature, by_name in reference.outputs.items() for name, known in by_name.items()}
    broken: list[str] = []
    for number, case in enumerate(reference.cases):
        expected = references.outputs(folder, number)
        try:
            got = runner.infer(case.signature, samples[case.signature].take(case.rows, case.width))
        except Exception as error:  # the candidate's fault, whatever its library raises
            broken.append(f"{case.name}: {type(error).__name__}: {one_line(error)}")
            break
        broken += [f"{case.signature}: output '{n}' is missing" for n in expected if n not in got]
        broken += [f"{case.signature}: output '{n}' is not in the contract" for n in got if n not in expected]
        if broken:
            break
        for name, value in got.items():
            comparisons[case.signature, name].add(case.name, case.group, case.rows, expected[name], value)
        progress(number + 1, len(reference.cases))
    fed = {name: functools.partial(_fed, name, opened, words) for name, opened in samples.items()}
    verdicts = tuple(comparison.verdict(fed[signature]) for (signature, _), comparison in comparisons.items())
    # After a break the other outputs are only half compared: its reason is the one to read.
    reasons = broken or [f"{v.signature}.{v.output}: {v.reasons[0]}{_noisy(reference, v)}"
                         for v in verdicts if not v.passed]
    return Verdict(passed=not reasons, reason="; ".join(reasons[:3]), outputs=verdicts)


def _fed(signature: str, samples: Samples, words: Mapping[str, Vocabulary], sample: int) -> dict[str, Excerpt]:
    """What ``sample`` feeds, in its own length, by input."""
    return {name: excerpt(rows[0, ...], vocabulary.of(words, signature, name))
            for name, rows in samples.take([sample]).items()}


def _noisy(reference: Reference, verdict: OutputVerdict) -> str:
    """A hint where no default can be right, because the original does not agree with itself."""
    floor = reference.outputs[verdict.signature][verdict.output].noise.floor
    if FLOOR_MARGIN * floor <= LARGEST_DEFAULT:
        return ""
    return f" (the original itself varies by {floor:.2g} of its range: give this output a gate)"
