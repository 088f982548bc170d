"""A GPU for `finalize`: the real one where there is one, and one that workers are made to believe in."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tftrt_shim.build import HERE, LIBRARIES, build


class Gpu:
    """Where engines run; ``pretended`` on the CPU shim, which keeps a log of what they did."""

    def __init__(self, log: Path | None) -> None:
        self.log = log

    @property
    def pretended(self) -> bool:
        return self.log is not None

    def events(self) -> dict[str, list[str]]:
        """Event -> the engines that it happened to, in order (see `trt_cpu_shim.cc`); only where pretended."""
        assert self.log
        found: dict[str, list[str]] = {}
        for line in self.log.read_text().splitlines() if self.log.exists() else ():
            event, _, engine = line.partition(" ")
            found.setdefault(event, []).append(engine)
        return found

    def forget(self) -> None:
        if self.log:
            self.log.unlink(missing_ok=True)


@pytest.fixture(scope="module", params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpu]:
    """What every worker finds that a test of this module starts."""
    if request.param == "real":
        yield Gpu(None)
        return
    log = tmp_path_factory.mktemp("shim") / "events.txt"
    library = build(Path(sys.executable), LIBRARIES)  # before anything is pretended
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE / "pretend"))
        patch.setenv("TRT_SHIM_LIBRARY", str(library))
        patch.setenv("TRT_SHIM_LOG", str(log))
        yield Gpu(log)


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is of a GPU, real or not, is hidden from workers."""
    hide_gpu(monkeypatch)


def hide_gpu(patch: pytest.MonkeyPatch) -> None:
    """Let workers find no GPU."""
    patch.delenv("PYTHONPATH", raising=False)
    if shutil.which("nvidia-smi"):
        patch.setenv("CUDA_VISIBLE_DEVICES", "-1")
