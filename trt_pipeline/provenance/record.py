"""What is recorded of a run: `run.json` as it begins and ends, and what each publication brings along."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_pipeline import digest, files
from trt_pipeline.calibration import ranges
from trt_pipeline.config.schema import Config
from trt_pipeline.environment import environment
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.provenance import published, sbom, statement
from trt_pipeline.provenance.published import FILE
from trt_pipeline.provenance.statement import FOLDER_DIGEST, VALUE_DIGEST, Descriptor
from trt_pipeline.publish import checksums, triton, versions
from trt_pipeline.publish.layout import TRITON_FOLDER
from trt_pipeline.results import CandidateResult, StageCost

if TYPE_CHECKING:
    from trt_pipeline.publish.seal import Evidence
    from trt_pipeline.run_result import RunResult

RUN = "run.json"
"""The statement in a run's folder."""


class Provenance:
    """Where the results of one run come from."""

    def __init__(self, config: Config, folder: Path, candidates: Sequence[str], model_digest: str,
                 samples_digests: Mapping[str, str], interpreters: Mapping[str, Interpreter]) -> None:
        """Take down what is known as the run begins.

        Args:
            folder: the run's, named after its id.
            candidates: their names.
            model_digest: `digest.of_folder` of the model.
            samples_digests: kind of samples -> digest.
            interpreters: backend -> what its workers run under, where that is not this interpreter.

        Raises:
            ConfigError: an interpreter does not answer.
        """
        self.sbom = sbom.text(interpreters)
        self._config, self._folder, self._started = config, folder, _now()
        self._external = {"config": config.model_dump(mode="json"), "candidates": list(candidates)}
        self._internal = {"environment": environment(),
                          "interpreters": {name: one.environment for name, one in interpreters.items()}}
        self._dependencies = [
            statement.descriptor("model", model_digest, FOLDER_DIGEST, uri=config.model.absolute().as_uri()),
            *(statement.descriptor(f"samples/{kind}", content, VALUE_DIGEST)
              for kind, content in samples_digests.items()),
            *(statement.descriptor(name, digest.of_file(path), uri=path.absolute().as_uri())
              for name, path in _named_files(config))]

    def begin(self) -> None:
        """Write `RUN` and the bill of materials into the run's folder."""
        (self._folder / sbom.FILE).write_bytes(self.sbom)
        self._write(self.begun())

    def end(self, result: RunResult) -> None:
        """Rewrite `RUN` once the run's folder is complete but for it."""
        self._write(self.ended(result))

    def begun(self) -> dict[str, Any]:
        """`RUN` until the run has ended: without a subject, so nothing to sign."""
        return statement.statement({}, self._predicate())

    def evidence(self, candidates: Sequence[CandidateResult]) -> Evidence:
        """What brings publications their `FILE` and their bill of materials."""
        made = self._folder / ranges.FILE
        byproducts = [*_measured(candidates),
                      *([statement.descriptor(ranges.FILE, digest.of_file(made))] if made.is_file() else [])]

        def brought(model: Mapping[str, str]) -> Mapping[str, bytes]:
            made = statement.statement(model, self._predicate(byproducts, _now()))
            return {FILE: statement.text(made), sbom.FILE: self.sbom}

        return brought

    def ended(self, result: RunResult) -> dict[str, Any]:
        """`RUN` of a run that has ended.

        Its subjects are what the run made: report.json and the ranges, candidates' files, and what is the model in
        each new version.
        """
        subjects = {name: digest.of_file(self._folder / name) for name in ("report.json", ranges.FILE)
                    if (self._folder / name).is_file()}
        made = self._folder / "candidates"
        subjects |= {f"candidates/{name}": digest.of_file(made / name) for name, regular in checksums.entries(made)
                     if regular and name.split("/")[1] == "model"} if made.is_dir() else {}
        for path in self._published(result):
            said, shown = published.read(path), path.relative_to(self._config.serving).as_posix()
            subjects |= {f"{self._config.serving.name}/{shown}/{name}": content
                         for name, content in (said.subjects if said else {}).items()}
        costs = [_seconds(result.stages)] if result.stages else []
        shared = [statement.descriptor("stages", digest.of_value(costs), VALUE_DIGEST,
                                       annotations={"seconds": costs[0]})] if costs else []
        return statement.statement(subjects, self._predicate([*_measured(result.candidates), *shared], _now()))

    def _predicate(self, byproducts: Iterable[Descriptor] = (), finished: datetime | None = None) -> dict[str, Any]:
        from trt_pipeline import __version__

        materials = statement.descriptor(sbom.FILE, hashlib.sha256(self.sbom).hexdigest(),
                                         mediaType="application/vnd.cyclonedx+json")
        return statement.predicate(
            external=self._external, internal=self._internal, dependencies=self._dependencies,
            versions={"trt-pipeline": __version__, "sources": digest.of_this_package()},
            invocation=f"{self._folder.absolute().parent.name}/{self._folder.name}",
            started=self._started, finished=finished,
            byproducts=[materials, *byproducts])

    def _write(self, document: Mapping[str, Any]) -> None:
        files.write_whole(self._folder / RUN, statement.text(document))

    def _published(self, result: RunResult) -> Iterable[Path]:
        """The folders of the versions that the run made, one a signature where Triton serves them."""
        serving, name = self._config.serving, self._config.name
        signatures = list(self._config.signatures or result.contract.signatures)
        models = [serving / name, *(serving / TRITON_FOLDER / triton.triton_name(name, signature, signatures)
                                    for signature in signatures)]
        for folder in dict.fromkeys(models):
            for version in versions.existing(folder):
                if (versions.manifest(folder, version) or {}).get("run") == self._folder.name:
                    yield folder / str(version)


def _named_files(config: Config) -> Iterable[tuple[str, Path]]:
    """Files that the configuration names, which results depend on."""
    if config.calibration.ranges:
        yield "ranges", config.calibration.ranges
    for candidate, path in config.islands.pinned.items():
        yield f"islands/{candidate}", path


def _measured(candidates: Iterable[CandidateResult]) -> Iterable[Descriptor]:
    """Each candidate with its standing, what its stages took, and how fast it is."""
    for one in candidates:
        timed = one.benchmark.batches if one.benchmark else ()
        yield statement.descriptor(
            f"candidates/{one.name}", digest.of_value(one.model_dump(mode="json")), VALUE_DIGEST, annotations={
                "status": one.status, **({"reason": one.reason} if one.reason else {}),
                "seconds": _seconds(one.stages),
                "latency_ms": {f"{batch.signature}@{batch.batch_size}": {
                    "p50": batch.candidate.p50, "p99": batch.candidate.p99, "original_p50": batch.original.p50}
                    for batch in timed}})


def _seconds(stages: Iterable[StageCost]) -> dict[str, float]:
    """Stage -> what it took, when it was done; of one that was done several times, all of them."""
    total: dict[str, float] = {}
    for cost in stages:
        total[cost.stage] = round(total.get(cost.stage, 0) + cost.seconds, 3)
    return total


def _now() -> datetime:
    return datetime.now(timezone.utc)
