"""On PYTHONPATH, makes a timed process sleep where the original would compute: so long as its file ``seconds`` says.

Python imports this at its start; what it changes is changed when the pipeline imports it. Everything else that runs
is the pipeline's own code.
"""

from __future__ import annotations

import importlib.machinery
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_CHANGED = "trt_pipeline.backends.original"


def _sleep_instead(original: Any) -> None:
    from trt_pipeline.backends.base import Runner

    class Sleeper(Runner):
        def __init__(self, contract: Any, folder: Path) -> None:
            super().__init__(contract)
            self.seconds = float((folder / "seconds").read_text())

        def activate_impl(self) -> None: ...

        def infer_impl(self, signature: str, feeds: Any) -> dict[str, Any]:
            time.sleep(self.seconds)
            return {}

    original.Original.load = lambda self, artifact, folder, contract, threads=None: Sleeper(contract, folder)


class _Changing:
    """Imports the original's backend as Python does, and changes it once it is there."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
                  ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == _CHANGED else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _sleep_instead(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Changing)
