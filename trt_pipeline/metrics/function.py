"""The function of a metric: ``module:function``, ``path/to/file.py:function``, or any callable of Python's.

A callable goes to its worker as cloudpickle writes it, so it may come from a notebook, be a closure or a lambda.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy.typing as npt

from trt_pipeline import digest
from trt_pipeline.errors import ConfigError, one_line
from trt_pipeline.metrics import packed

Array = npt.NDArray[Any]
Function = Callable[[dict[str, Array], Any], float]
Functions = Mapping[str, str | Function]
"""Name of a metric -> its function, or where that is: ``module:function`` or ``file.py:function``."""


def search_path(source: str) -> tuple[str, ...]:
    """Where the function at ``source`` finds modules: where this process does, and beside its own file."""
    place = source.rpartition(":")[0]
    own = [str(Path(place).parent)] if place.endswith(".py") else []
    return tuple(dict.fromkeys([*(os.path.abspath(entry) for entry in sys.path), *own]))


def load(source: str) -> Function:
    """The function at ``source``: ``module:function``, ``path/to/file.py:function``, or a file that `pack` wrote.

    Raises:
        ConfigError: there is no such function; one line says why. Whatever its module raises goes through.
    """
    if source.endswith(packed.SUFFIX):
        loaded: Function = pickle.loads(Path(source).read_bytes())
        return loaded
    place, _, name = source.rpartition(":")
    module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    try:
        function: Any = functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        raise ConfigError(f"{place} has no '{name}'") from None
    if not callable(function):
        raise ConfigError(f"{name} of {place} is no function")
    return function  # type: ignore[no-any-return]


def pack(metric: str, given: str | Function, folder: Path) -> tuple[str, str]:
    """Check the function of ``metric``, and make it ready for a worker.

    Args:
        given: as the configuration has it, or a callable, which is written to ``folder``.

    Returns:
        The source that `load` takes in a worker, and a digest of the code. That covers the file in which the function
        is defined, and what a pickled one brings along; not the modules that it imports.

    Raises:
        ConfigError: it cannot be found, or cannot be written down.
    """
    if not isinstance(given, str):
        return _pickled(metric, given, folder)
    place, _, name = given.rpartition(":")
    if place.endswith(".py"):
        place = str(Path(place).absolute())
    source = f"{place}:{name}"
    try:
        with _searching([os.getcwd(), *search_path(source)]):  # as its worker does
            function = load(source)
    except ConfigError as error:
        raise ConfigError(f"metric {metric}: {error}") from None
    except (Exception, SystemExit) as error:  # the user's own code, whatever it raises
        raise ConfigError(f"metric {metric}: {given} cannot be imported: {type(error).__name__}: "
                          f"{one_line(error)}") from None
    defined = digest.of_file(Path(place)) if place.endswith(".py") else _code_of(function)
    return source, digest.of_value([source, defined])


def _pickled(metric: str, function: Function, folder: Path) -> tuple[str, str]:
    import cloudpickle

    if not callable(function):
        raise ConfigError(f"metric {metric} is a {type(function).__name__}: give a function of outputs and labels, "
                          "or 'module:function'")
    try:
        content = cloudpickle.dumps(function)
    except Exception as error:  # what it refers to may be of any library
        raise ConfigError(f"metric {metric} cannot be sent to a worker: {one_line(error)}; let it open what it needs "
                          "itself, or put it into a module") from None
    return str(packed.write(content, folder)), digest.of_value([packed.digest(content), _code_of(function)])


def _code_of(function: Any) -> str:
    """Digest of the file in which ``function`` is defined: a pickle only names what can be imported."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__module__", None) or type(function).__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    return digest.of_file(Path(file)) if name != "__main__" and file and Path(file).is_file() else ""


def _from_file(path: Path) -> ModuleType:
    """The module in ``path``, read anew."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    name = f"{path.stem}_{digest.of_value(str(path.absolute()))[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as dataclasses and pickles want it
    spec.loader.exec_module(module)
    return module


@contextmanager
def _searching(paths: Sequence[str]) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:] = paths
    try:
        yield
    finally:
        sys.path[:] = before
