"""Labels: what a metric holds the outputs against, one a sample, in the samples' order."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trt_pipeline import digest
from trt_pipeline.errors import ConfigError, SamplesError, one_line
from trt_pipeline.metrics import packed
from trt_pipeline.suggest import did_you_mean

KINDS = (".npz", ".npy", ".json", ".jsonl", ".txt")


def of_signature(given: Any, signature: str, signatures: Sequence[str]) -> Any:
    """The part of ``given`` that is for one signature: all of it, unless its keys are ``signatures``; None for none.

    Raises:
        ConfigError: some of its keys are signatures and others are not.
    """
    if not isinstance(given, Mapping) or not set(given) & set(signatures):
        return given
    for name in given:
        if name not in signatures:
            raise ConfigError(f"labels are given for the signature '{name}', which is not judged: there are "
                              f"{', '.join(signatures)}{did_you_mean(str(name), signatures)}")
    return given.get(signature)


def read(source: Path) -> Any:
    """The labels in a file.

    Returns:
        Of ``.npy`` an array (N, ...), of ``.npz`` a dict of such arrays, of ``.jsonl`` a list of N values, of ``.txt``
        a list of N lines, of ``.json`` a list of N values or a dict of such lists. Lines end with LF, CR LF or CR; what
        else Unicode has for that, such as U+2028, is part of the label.

    Raises:
        SamplesError: there is no such file, it cannot be read, or is of another kind.
    """
    if source.suffix not in KINDS:
        raise SamplesError(f"labels {source}: labels are {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    try:
        if source.suffix in (".npz", ".npy"):
            return _arrays(source)
        text = source.read_text(encoding="utf-8")
        if source.suffix == ".txt":
            return text.removesuffix("\n").split("\n") if text else []
        if source.suffix == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        return json.loads(text)
    except FileNotFoundError:
        raise SamplesError(f"no labels at {source}: check 'labels' in the config") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SamplesError(f"labels {source} cannot be read as {source.suffix}: {one_line(error)}") from None


def _arrays(source: Path) -> Any:
    loaded = np.load(source, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded as archive:
        return {name: archive[name] for name in archive.files}


def check(labels: Any, where: str, signature: str, samples: int) -> None:
    """Raise SamplesError where ``labels``, or a column of them, are not one for each of so many ``samples``."""
    columns = labels if isinstance(labels, Mapping) else {"": labels}
    if not columns:
        raise SamplesError(f"{where} are empty: give one for each sample, in the samples' order")
    for name, column in columns.items():
        what = f"{where}: '{name}'" if name else where
        try:
            count = len(column)
        except TypeError:
            raise SamplesError(f"{what} of type {type(column).__name__} cannot be counted: give an array or a "
                               "list") from None
        if count != samples:
            raise SamplesError(f"{what} has {count} labels, and signature {signature} has {samples} samples: give one "
                               "for each, in their order")


def pack(given: Any, signature: str, samples: int, folder: Path) -> tuple[Path, str]:
    """Check the labels of one signature and write them to ``folder`` for workers.

    Args:
        given: a file's path, or labels as `read` returns them.

    Returns:
        The file that `load` takes, and a digest of the labels.

    Raises:
        SamplesError: they cannot be read, or do not fit the samples.
    """
    where, labels = "labels", given
    if isinstance(given, (str, Path)):
        where, labels = f"labels {given}", read(Path(given))
    check(labels, where, signature, samples)
    try:
        content = pickle.dumps(labels, protocol=5)
    except Exception as error:  # of whatever type the user's objects are
        raise SamplesError(f"{where} cannot be sent to a worker: {one_line(error)}: give arrays or lists") from None
    known = digest.of_file(Path(given)) if isinstance(given, (str, Path)) else packed.digest(content)
    return packed.write(content, folder), known


def load(file: Path) -> Any:
    """The labels that `pack` wrote."""
    return pickle.loads(file.read_bytes())
