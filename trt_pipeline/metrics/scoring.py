"""Compute the metrics of a run's candidates, each in a worker of its own, and hold them to their bounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trt_pipeline.errors import ConfigError, ModelChangedError, PipelineError, Unsupported
from trt_pipeline.files import folder_of
from trt_pipeline.metrics import answers
from trt_pipeline.metrics.metric import Metric
from trt_pipeline.metrics.score import Scores, missed, unbounded
from trt_pipeline.parity.reference import Reference
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.publish.select import ORIGINAL
from trt_pipeline.results import StageCost, Status
from trt_pipeline.stages import jobs
from trt_pipeline.stages.execute import Executor
from trt_pipeline.stages.worker import WorkerFailed


def score(executor: Executor, candidate: str, metrics: Sequence[Metric], reference: Reference,
          folder: Path) -> tuple[Scores, tuple[StageCost, ...]]:
    """The metrics of a candidate, and what each took; one that cannot be computed says why, and is tried again.

    A candidate that did not answer all samples has none: its verdict says why.

    Args:
        candidate: its name, for people.
        folder: its outputs on the samples, as `jobs.validate` keeps them in a stage's files.
    """
    found, costs = Scores(), []
    cases = [case.model_dump(mode="json") for case in reference.cases]
    for metric in metrics:
        if not answers.complete(folder, reference.cases, metric.signature):
            continue
        try:
            # The entry's name stands for the conversion, the samples and all else that the outputs depend on.
            entry, cost = executor.stage(candidate, f"metric {folder_of(metric.name)}", jobs.score, {
                "metric": metric.model_dump(mode="json"), "answers": str(folder), "cases": cases,
            }, {"metric": metric.digest, "answers": folder.parent.name})
        except ModelChangedError:
            raise
        except (WorkerFailed, PipelineError, Unsupported) as error:
            found = found.with_failed(metric.name, str(error))
            continue
        found = found.with_value(metric.name, entry.value)
        costs.append(cost)
    return found, tuple(costs)


def score_original(executor: Executor, metrics: Sequence[Metric], reference: Reference, folder: Path,
                   gate: Gate) -> tuple[Scores, tuple[StageCost, ...]]:
    """The metrics of the original, from its stored outputs.

    Raises:
        ConfigError: one cannot be computed, so none of a candidate's can; or it is no number to hold theirs against.
    """
    found, costs = score(executor, ORIGINAL, metrics, reference, folder)
    for name, why in found.failed.items():
        raise ConfigError(f"metric {name} cannot be computed of the original: {why}")
    for name, what in found.not_finite.items():
        bound = gate.metrics.get(name)
        if bound and (bound.max_drop is not None or bound.max_rise is not None):
            raise ConfigError(f"metric {name} of the original is {what}, and {bound} is asked of candidates: ask for "
                              "min or max, or mend the function")
    return found, costs


def standing(candidate: str, status: Status, reason: str, gate: Gate, scores: Scores, original: Scores,
             estimated: bool) -> dict[str, Any]:
    """Status and reason of a candidate, which had these before, with its metrics; fields of `CandidateResult`.

    The original stays what it was: nothing can be served in its place that keeps more.

    Args:
        estimated: the metrics are of what stands in for it.
    """
    if status == "ok" and candidate != ORIGINAL:  # no bound may be passed by not being looked at
        for name in gate.metrics.keys() - scores.values.keys() - scores.told().keys():
            scores = scores.with_failed(name, "its outputs on the samples are not there")
    broken = missed(gate.metrics, scores, original)
    told = [f"estimated {clause}" if estimated else clause for clause in broken]
    if broken and status == "ok" and candidate != ORIGINAL:
        status = "rejected"
    less = tuple(name for name, bound in gate.metrics.items() if not bound.higher_is_better)
    return {"status": status, "metrics": scores.values, "lower_is_better": less,
            "reason": "; ".join(filter(None, (reason, *told, *unbounded(gate.metrics, scores))))}
