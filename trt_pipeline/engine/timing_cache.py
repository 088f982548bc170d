"""How fast each kernel was when an engine was built, kept beside it: from the same times, the same kernels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trt_pipeline.engine.fit import BuiltOn
from trt_pipeline.files import write_whole

# TensorRT checks a cache too, but says no more than that its header does not match.
_KEY = ".json"
_KEYED = ("gpu", "compute_capability", "tensorrt", "cuda")


def read(file: Path | None, here: BuiltOn) -> tuple[bytes, str]:
    """The cache in ``file``, or empty and why it is not used; without a word where there is no file."""
    if file is None or not file.is_file():
        return b"", ""
    try:
        made = json.loads(_key_file(file).read_text())
        other = next((name for name in _KEYED if made[name] != getattr(here, name)), "")
    except (OSError, ValueError, KeyError, TypeError):
        return b"", f"the timing cache {file} does not say where it was made, and is left out"
    if other:
        name = other.replace("_", " ")
        return b"", (f"the timing cache {file} was made with {name} {made[other]}, and this is {getattr(here, other)}: "
                     "it is left out")
    return file.read_bytes(), ""


def write(config: Any, file: Path, here: BuiltOn) -> None:
    """Write the cache of ``config``, an IBuilderConfig that an engine was built with, to ``file``, whole or not."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    content = bytes(memoryview(cache.serialize()))
    _key_file(file).write_text(json.dumps({name: getattr(here, name) for name in _KEYED}, indent=2) + "\n")
    write_whole(file, content)


def keep(file: Path, target: Path) -> None:
    """Copy the cache in ``file`` to ``target``, for the next build."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for source, copy in ((_key_file(file), _key_file(target)), (file, target)):
        write_whole(copy, source.read_bytes())


def files(name: str) -> tuple[str, str]:
    """The names of the files that a cache of this name is in."""
    return name, name + _KEY


def _key_file(file: Path) -> Path:
    return file.with_name(file.name + _KEY)
