"""Turn a configuration into a checked plan: model, contract-fitting samples, candidates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from trt_pipeline import digest, interpreter
from trt_pipeline.backends import backend
from trt_pipeline.calibration import ranges
from trt_pipeline.config.candidates import CandidateSpec, candidates_of
from trt_pipeline.config.schema import Config
from trt_pipeline.errors import ConfigError, ModelError, SamplesError
from trt_pipeline.frozen import Frozen
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.islands import file as islands
from trt_pipeline.islands.islands import Islands
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import Contract
from trt_pipeline.publish.select import check_targets
from trt_pipeline.samples import check, profiles, sources, store
from trt_pipeline.suggest import did_you_mean

Kind = Literal["validation", "calibration"]


class SampleSet(Frozen):
    """Checked samples in their stores, and the digest of what they hold."""

    folders: dict[str, Path]
    """Signature -> store folder."""
    digest: str


def candidates(config: Config, backends: list[str], precisions: list[str]) -> tuple[CandidateSpec, ...]:
    """The candidates of a run, the original left out: those of the config, limited by the options.

    Raises:
        ConfigError: an option names what does not exist, or nothing is left.
    """
    known = candidates_of(backends, precisions)
    allowed = {(c.backend, c.precision) for c in known}
    chosen = tuple(c for c in config.candidates if (c.backend, c.precision) in allowed) if config.candidates else known
    if not chosen:
        raise ConfigError(f"no candidate is left: the config names {', '.join(c.name for c in config.candidates)}")
    for name, settings in config.backends.items():
        backend(name).check_options(settings.options)
    for candidate in chosen:
        backend(candidate.backend).check_options(candidate.options)
    check_targets(config, (candidate.name for candidate in chosen))
    return chosen


def interpreters(config: Config, chosen: tuple[CandidateSpec, ...]) -> dict[str, Interpreter]:
    """Backend -> the interpreter of its workers, for those of ``chosen`` that have one of their own.

    Raises:
        ConfigError: one of them is none.
    """
    wanted = {candidate.backend for candidate in chosen}
    return {name: interpreter.examine(settings.python) for name, settings in config.backends.items()
            if settings.python and name in wanted}


def check_model(config: Config) -> str:
    """Digest of the model's files, after the checks that need no TensorFlow."""
    try:
        return digest.of_folder(saved_model.check_folder(config.model))
    except OSError as error:
        raise ModelError(f"{config.model} cannot be read: {error.strerror}: {error.filename}") from None


def given_ranges(config: Config, model_digest: str) -> Path | None:
    """The ranges file that the config names, if it names one.

    Raises:
        InputError: it is none of this model.
    """
    file = config.calibration.ranges
    if file:
        ranges.read(file, model_digest)
    return file


def pinned_islands(config: Config, chosen: tuple[CandidateSpec, ...], model_digest: str) -> dict[str, Islands]:
    """Candidate -> the islands that the config, or the candidate's own part of it, pins for it.

    Raises:
        InputError: a file is not one of this model and candidate.
    """
    own = {candidate.name: candidate.islands for candidate in chosen if candidate.islands}
    return {name: islands.read(path, model_digest, name.partition(":")[0])
            for name, path in (config.islands.pinned | own).items()}


def signatures(config: Config, contract: Contract) -> tuple[str, ...]:
    """The signatures to optimize.

    Raises:
        ConfigError: the config names one that the model lacks, or pads an input that none has.
    """
    chosen = config.signatures or tuple(contract.signatures)
    for name in chosen:
        contract.signature(name)
    inputs = {key for name in chosen for key in contract.signatures[name].inputs}
    for name in config.padding:
        if name not in inputs:
            raise ConfigError(f"padding names the input '{name}', which no signature has: "
                              f"there are {', '.join(sorted(inputs))}")
        shapes = [contract.signatures[s].inputs[name].shape for s in chosen if name in contract.signatures[s].inputs]
        if any(shape is not None and (len(shape) < 2 or shape[1] is not None) for shape in shapes):
            raise ConfigError(f"padding names the input '{name}', whose axis 1 is not free: leave it out")
    _check_gate(config, contract, chosen)
    profiles.check(config.profiles, {name: contract.signatures[name] for name in chosen})
    return chosen


def _check_gate(config: Config, contract: Contract, chosen: tuple[str, ...]) -> None:
    """A bound for an output that does not exist is one that the user wrongly relies on."""
    outputs = [name for signature in chosen for name in contract.signatures[signature].outputs]
    qualified = [f"{signature}.{name}" for signature in chosen for name in contract.signatures[signature].outputs]
    known = {*outputs, *qualified}
    for table in (config.gate.outputs, *config.gate.precisions.values()):
        for name in table:
            if name not in known:
                raise ConfigError(f"the gate names the output '{name}', which no signature has: there are "
                                  f"{', '.join(dict.fromkeys(outputs))}{did_you_mean(name, known)}")


def open_samples(config: Config, contract: Contract, chosen: tuple[str, ...], kind: Kind,
                 root: Path) -> SampleSet | None:
    """Read, check and store one kind of samples for every signature; None where the config names none.

    Raises:
        SamplesError: they do not fit; a signature without validation samples is an error too.
    """
    arrays: dict[str, dict[str, store.Array]] = {}
    for name in chosen:
        source = config.samples.of(kind, name)
        if not contract.signatures[name].inputs:
            arrays[name] = {}
            continue
        if source is None:
            if kind == "calibration":
                continue
            raise SamplesError(f"signature {name} has no samples: add it under samples.validation, or leave the "
                               "signature out with 'signatures'")
        read = sources.read(source, list(contract.signatures[name].inputs))
        arrays[name] = check.check(read, contract.signatures[name], source)
    if not arrays:
        return None
    folders = {}
    digests: dict[str, str] = {}
    for name, columns in arrays.items():
        folders[name], digests[name] = _stored(columns, root)
    return SampleSet(folders=folders, digest=digest.of_value(digests))


def _stored(columns: Mapping[str, store.Array], root: Path) -> tuple[Path, str]:
    """The store of ``columns`` below ``root``, named after its content; made if it is not there yet."""
    root.mkdir(parents=True, exist_ok=True)
    staged = root / "staging-samples"
    store.write(dict(columns), staged)
    content = digest.of_folder(staged)
    folder = root / f"samples-{content[:24]}"
    if not folder.exists():
        staged.rename(folder)
    else:
        for file in staged.iterdir():
            file.unlink()
        staged.rmdir()
    return folder, content
