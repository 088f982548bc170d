"""What is logged of a run and of a candidate: parameters, metrics and tags, as plain values."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from trt_pipeline import figures
from trt_pipeline.frozen import Frozen
from trt_pipeline.report import wording
from trt_pipeline.results import CandidateResult
from trt_pipeline.run_result import RunResult

# Tags by which what was logged is found again.
RUN, MODEL_DIGEST, RESULT_DIGEST, CANDIDATE = (
    f"trt_pipeline.{name}" for name in ("run", "model_digest", "result_digest", "candidate"))
# MLflow's own tags: what its pages show above a run's tables.
_DESCRIPTION, _SOURCE = "mlflow.note.content", "mlflow.source.name"
# Servers take more; the whole text is in report.json.
_LONGEST = 500


class Entries(Frozen):
    """What is logged as one MLflow run; ``identity`` are the tags that tell it from the others beside it."""

    name: str
    identity: dict[str, str]
    seconds: float
    failed: bool = False
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def of_run(result: RunResult) -> Entries:
    """The configuration, the environment, the figures of the best candidate, and what was published."""
    params = {"model": result.model, "model_digest": result.model_digest}
    params |= {f"samples_digest.{name}": digest for name, digest in result.samples_digests.items()}
    params |= {f"config.{key}": _text(value) for key, value in result.config.items()}
    params |= {f"environment.{key}": value for key, value in result.environment.items() if value}
    statuses = [candidate.status for candidate in result.candidates]
    counts = {f"candidates.{status}": float(statuses.count(status)) for status in dict.fromkeys(statuses)}
    best = result.best()
    tags = {"best": best.name, "objective": result.objective, _SOURCE: "trt-pipeline",
            _DESCRIPTION: wording.verdict(result)}
    tags |= {f"published.{found.target.replace(' ', '-')}": f"{found.candidate}, version {found.version}"
             for found in result.publications if found.candidate}
    metrics = {"seconds": result.seconds, **counts, **_metrics(result, best)}
    return Entries(
        name=f"{result.name} {result.run_id}", seconds=result.seconds,
        identity={RUN: f"{result.name}/{result.run_id}", MODEL_DIGEST: result.model_digest},
        params=_params(params), metrics=_finite(metrics), tags=_tags(tags))


def of_candidate(result: RunResult, candidate: CandidateResult) -> Entries:
    """What it is, every figure that was measured of it, and what became of it."""
    options = {**result.config.get("backends", {}).get(candidate.backend, {}), **candidate.options}
    params = {"backend": candidate.backend, "precision": candidate.precision, "options": _text(options)}
    metrics = _metrics(result, candidate)
    if candidate.islands:
        metrics["islands"] = float(sum(map(len, candidate.islands.islands.raised.values())))
    if (share := candidate.low_share) is not None:
        metrics["low_precision_share"] = share
    # No parameters: what becomes of a candidate changes when it is finalized, and a parameter can't.
    tags = {"status": candidate.status, "label": candidate.label, _SOURCE: "trt-pipeline"}
    if candidate.reason:
        tags |= {"reason": candidate.reason, _DESCRIPTION: candidate.reason}
    return Entries(
        name=candidate.name, identity={CANDIDATE: candidate.name}, failed=candidate.status == "failed",
        seconds=sum(stage.seconds for stage in candidate.stages if not stage.cached),
        params=_params(params), metrics=_finite(metrics), tags=_tags(tags))


def _metrics(result: RunResult, candidate: CandidateResult) -> dict[str, float]:
    """Figures of ``candidate`` by name, a speedup's interval beside it."""
    found: dict[str, float | None] = {}
    for name in figures.names(result):
        found[name] = figures.figure(candidate, name)
        if interval := figures.interval(candidate, name):
            found |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return {name: value for name, value in found.items() if value is not None}


def _params(params: dict[str, str]) -> dict[str, str]:
    return {_key(key): _short(value) for key, value in params.items()}


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    """MLflow has no place for an infinite figure."""
    return {_key(key): value for key, value in metrics.items() if math.isfinite(value)}


def _tags(tags: dict[str, str]) -> dict[str, str]:
    return {_key(key): value if key == _DESCRIPTION else _short(value) for key, value in tags.items()}


def _key(name: str) -> str:
    """``latency_p50_at_1`` for ``latency_p50@1``: searchable without quotes."""
    return re.sub(r"[^\w.\-]", "_", name.replace("@", "_at_"))[:250]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST - 1] + "…"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
