"""Who judges the candidates of a study: here one after the other, or whoever keeps the same promise elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from trt_pipeline.results import CandidateResult
from trt_pipeline.stages.execute import Executor
from trt_pipeline.stages.judging import Judging
from trt_pipeline.stages.study import Study


class Judges(Protocol):
    """Judges all candidates of a study but the original, in any order."""

    def judge(self, study: Study, executor: Executor,
              judged: Sequence[CandidateResult]) -> Iterator[tuple[CandidateResult, Path | None]]:
        """Each candidate's result, and the folder of its files where it has any, as they are done.

        Args:
            executor: does stages on this machine, and has the results that were kept.
            judged: grows with the results that have been taken from the iterator.
        """


class OneAfterTheOther:
    """Judges in workers of this machine; nothing else of the run is at work meanwhile."""

    def judge(self, study: Study, executor: Executor,
              judged: Sequence[CandidateResult]) -> Iterator[tuple[CandidateResult, Path | None]]:
        """As `Judges`."""
        judging = Judging(study, executor, lambda: tuple(judged))
        for spec in study.chosen:
            yield judging.judge(spec)
