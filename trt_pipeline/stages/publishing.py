"""What of a run's stages belongs to publishing, and publishing a candidate of a run that is over."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from trt_pipeline.backends.base import Artifact
from trt_pipeline.candidate import MODEL_FOLDER
from trt_pipeline.config.schema import Config
from trt_pipeline.errors import ConfigError, GateError, InputError, PipelineError
from trt_pipeline.files import writing_to
from trt_pipeline.model.contract import WARM_UP, Contract
from trt_pipeline.provenance.record import Provenance
from trt_pipeline.publish import publish as publication
from trt_pipeline.publish import servers
from trt_pipeline.results import CandidateResult, Publication, StageCost
from trt_pipeline.run_result import RunResult
from trt_pipeline.samples.profiles import as_json
from trt_pipeline.samples.store import Samples
from trt_pipeline.stages import jobs, lock, plan
from trt_pipeline.stages.cache import StageCache
from trt_pipeline.stages.execute import Executor
from trt_pipeline.stages.observer import Silent
from trt_pipeline.stages.plan import SampleSet
from trt_pipeline.stages.run_folder import folder_name
from trt_pipeline.stages.worker import WorkerFailed


class WarmUps:
    """Writes the records that TensorFlow Serving warms an artifact up with, kept like a stage's result."""

    def __init__(self, executor: Executor, config: Config, contract: Contract, signatures: tuple[str, ...],
                 validation: SampleSet) -> None:
        self._executor, self._config, self._contract = executor, config, contract
        self._signatures, self._validation = signatures, validation
        self.costs: list[StageCost] = []

    def __call__(self, artifact: Artifact, sizes: tuple[int, ...]) -> Path:
        """The file for batches of ``sizes``. Raises `publish.NoWarmUp`."""
        config = self._config
        profiles = as_json(config.profiles) if servers.needs_gpu(artifact.kind) else []
        same = {"name": config.name, "signatures": self._signatures, "batch_sizes": sizes, "profiles": profiles}
        samples = {name: str(folder) for name, folder in self._validation.folders.items()}
        try:
            entry, cost = self._executor.stage("publication", "warm-up", jobs.write_warm_up, {
                "contract": self._contract.model_dump(mode="json"), "samples": samples, "padding": config.padding,
                **same,
            }, {"samples": self._validation.digest, "padding": config.padding, **same})
        except (WorkerFailed, PipelineError) as error:
            raise publication.NoWarmUp(str(error)) from None
        self.costs.append(cost)
        return entry.files / WARM_UP


def publish(run: RunResult, candidate: CandidateResult, folder: Path, again: bool) -> tuple[Publication, ...]:
    """Publish a candidate of ``run`` to ``folder`` for every target of the run's configuration that can load it.

    Raises:
        InputError: its files are gone, the model or the samples are gone or others now, or ``folder`` is not to be
            written to.
        GateError: no target can load it.
    """
    try:
        config = Config.model_validate(run.config | {"name": folder.resolve().name, "serving": folder.parent})
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{folder} cannot be published to: {message}") from None
    files = Path(run.folder, "candidates", folder_name(candidate.name), MODEL_FOLDER)
    if not files.is_dir():
        raise InputError(f"{files} is gone: run the sweep again, and publish what comes of it")
    digest = plan.check_model(config)
    if digest != run.model_digest:
        raise InputError(f"{config.model} was changed since the run: run the sweep again")
    signatures = plan.signatures(config, run.contract)
    root = Path(run.folder).parent
    with lock.exclusive(root, run.name), writing_to(root):
        cache = StageCache(root / "stages")
        validation = plan.open_samples(config, run.contract, signatures, "validation", cache.root)
        assert validation
        if validation.digest != run.samples_digests["validation"]:
            raise InputError(f"the validation samples of {run.name} were changed since the run: run the sweep again")
        executor = Executor(config, digest, cache, False, Silent())
        provenance = Provenance(config, Path(run.folder), [one.name for one in run.candidates], digest,
                                run.samples_digests, {one.backend: one.interpreter for one in run.candidates
                                                      if one.interpreter})
        made = publication.publish_all(
            config, run.contract, signatures, run.candidates, {candidate.name: files}, run.run_id, digest, again,
            {name: Samples(path, config.padding) for name, path in validation.folders.items()},
            WarmUps(executor, config, run.contract, signatures, validation), provenance.evidence(run.candidates),
            by_hand=candidate.name)
    if not any(one.version for one in made):
        raise GateError(f"{candidate.name} is published nowhere: {made[0].target}: {made[0].why}")
    return made
