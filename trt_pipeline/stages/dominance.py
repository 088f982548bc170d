"""Which candidates make another one not worth measuring further."""

from __future__ import annotations

from collections.abc import Iterable

from trt_pipeline.benchmarking.interleaved import Rival
from trt_pipeline.config.schema import Config
from trt_pipeline.publish import select
from trt_pipeline.results import CandidateResult


def rivals(candidate: CandidateResult, judged: Iterable[CandidateResult], config: Config) -> tuple[Rival, ...]:
    """The fastest that could be chosen in place of ``candidate``, whatever its speed turns out to be above; or nobody.

    That is one which passed its gate, is as close to the original or closer, and which every target loads that
    loads ``candidate``.
    """
    error = select.parity_error(candidate)
    if error is None:
        return ()
    targets = [target for target in config.targets if select.form_for(target, candidate)]
    found = []
    for other in judged:
        ratio, distance = select.ratio(other, config.objective), select.parity_error(other)
        if (other.status == "ok" and ratio and distance is not None and distance <= error
                and all(select.form_for(target, other) for target in targets)):
            found.append(Rival(name=other.name, metric=config.objective_metric, batch_size=config.objective_batch,
                               speed=ratio.low))
    return tuple(sorted(found, key=lambda rival: -rival.speed)[:1])
