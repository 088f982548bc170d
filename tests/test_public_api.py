"""The public names stay what they are, whatever of the package is imported later."""

from __future__ import annotations

import importlib
import pkgutil

import trt_pipeline as tp


def test_every_public_name_is_there() -> None:
    for name in tp.__all__:
        assert getattr(tp, name, None) is not None, name


def test_no_module_takes_the_name_of_a_function() -> None:
    """Importing ``trt_pipeline.x`` sets the attribute ``x`` of the package."""
    modules = {module.name for module in pkgutil.iter_modules(tp.__path__)}
    assert modules & set(tp.__all__) == set()
    for name in modules - {"__main__"}:
        importlib.import_module(f"trt_pipeline.{name}")
    for name in ("benchmark", "convert", "finalize", "inspect", "optimize", "sweep", "validate"):
        assert callable(getattr(tp, name)), name
