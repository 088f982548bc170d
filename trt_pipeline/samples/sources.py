"""Read samples from what users have: npz, npy, a folder of them, TFRecord, or a Python generator."""

from __future__ import annotations

import importlib
import os
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.errors import SamplesError, one_line

Array = npt.NDArray[Any]


def read(source: str, inputs: list[str]) -> dict[str, Array]:
    """The arrays of ``source`` by input name, leading axis first.

    Args:
        source: ``FILE.npz``; ``FILE.npy`` or ``FILE.tfrecord`` (serialized records) for a signature
            with one input; a folder of ``INPUT.npy``; or ``module:function``, a callable that
            yields mappings from input name to the array of one sample (no batch axis).
        inputs: names of the signature's inputs; the single one names an npy or TFRecord.

    Raises:
        SamplesError: the source does not exist, cannot be read or is of no known kind.
    """
    path = Path(source)
    if path.is_dir():
        return {file.stem: _load_npy(file) for file in sorted(path.glob("*.npy"))}
    if not path.exists() and ":" in source:
        return _from_generator(source)
    if not path.exists():
        raise SamplesError(f"no samples at {source}: check 'samples' in the config")
    if path.suffix == ".npz":
        return _load_npz(path)
    if path.suffix not in (".npy", ".tfrecord", ".tfrecords"):
        raise SamplesError(f"{source}: samples are .npz, .npy, .tfrecord, a folder of .npy or module:function")
    if len(inputs) != 1:
        raise SamplesError(f"{source} holds one unnamed array, but the signature has inputs "
                           f"{', '.join(inputs)}: use .npz")
    if path.suffix == ".npy":
        return {inputs[0]: _load_npy(path)}
    return {inputs[0]: np.array(list(_tf_records(path)), dtype=object)}


def _load_npy(path: Path) -> Array:
    try:
        loaded = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(loaded, np.ndarray):
            raise ValueError("it is an archive of several; name it .npz")
        return loaded
    except (ValueError, OSError, EOFError) as error:
        raise SamplesError(f"{path} cannot be read as a numpy array without pickles: {one_line(error)}") from None


def _load_npz(path: Path) -> dict[str, Array]:
    try:
        opened = np.load(path, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            raise ValueError("it is a single array; name it .npy")
        with opened as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SamplesError(f"{path} cannot be read as an npz without pickles: {one_line(error)}") from None


def _tf_records(path: Path) -> Iterator[bytes]:
    """Records of a TFRecord file: length (uint64), its CRC, the bytes, their CRC, little-endian."""
    with path.open("rb") as stream:
        while header := stream.read(12):
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else -1
            body = stream.read(length + 4) if 0 <= length <= path.stat().st_size else b""
            if len(body) != length + 4:
                raise SamplesError(f"{path} is truncated or not a TFRecord file")
            yield body[:length]


def _from_generator(source: str) -> dict[str, Array]:
    module_name, _, function_name = source.partition(":")
    sys.path.insert(0, os.getcwd())  # as `python -m` does; the console script's own folder is no use
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise SamplesError(f"samples {source}: cannot import it: {one_line(error)}") from None
    finally:
        sys.path.pop(0)
    columns: dict[str, list[Array]] = {}
    try:
        for number, sample in enumerate(function()):
            if not isinstance(sample, Mapping):
                raise SamplesError(f"samples {source}: sample {number} is not a mapping from input name to array")
            for name, value in sample.items():
                # As dtype S, numpy would drop trailing NULs.
                columns.setdefault(name, []).append(np.asarray(value, object if isinstance(value, bytes) else None))
    except SamplesError:
        raise
    except Exception as error:  # the user's own code, whatever it raises
        raise SamplesError(f"samples {source}: {type(error).__name__}: {one_line(error)}") from error
    try:
        return {name: np.stack(values) for name, values in columns.items()}
    except ValueError:
        raise SamplesError(f"samples {source}: the samples differ in shape; pad them to one shape") from None
