"""Who is told how a run goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from trt_pipeline.errors import ConfigError
from trt_pipeline.results import CandidateResult

# 0: nobody is told how a run from Python goes; 1: stderr is, whatever it is.
_FORCED = "TRT_PIPELINE_PROGRESS"


class Observer(Protocol):
    """Who is told how a run goes; the terminal's progress bars are one.

    Where several candidates are at work at once, as on a cluster, each is a ``lane`` of its own, named as the
    candidate is.
    """

    def stage(self, name: str, *, lane: str = "") -> None:
        """A stage begins in ``lane``; an empty ``name`` says that the lane has ended."""

    def progress(self, done: int, total: int, *, lane: str = "") -> None:
        """The stage that ``lane`` is at has done ``done`` of ``total``."""

    def candidate(self, result: CandidateResult) -> None:
        """A candidate has been judged, and the lane of its name has ended."""


class Silent:
    """Nobody watches."""

    def stage(self, name: str, *, lane: str = "") -> None: ...

    def progress(self, done: int, total: int, *, lane: str = "") -> None: ...

    def candidate(self, result: CandidateResult) -> None: ...


@contextmanager
def watching(observer: Observer | None = None) -> Iterator[Observer]:
    """``observer``; without one, bars while somebody looks at stderr or at a notebook, else nobody.

    ``TRT_PIPELINE_PROGRESS=0`` keeps them away, and ``1`` shows a run where nobody seems to look, too.

    Raises:
        ConfigError: that variable is something else.
    """
    if observer is not None:
        yield observer
    elif not _somebody_looks():
        yield Silent()
    else:
        from trt_pipeline.report.terminal import Bars

        with Bars() as bars:
            yield bars


def _somebody_looks() -> bool:
    forced = os.environ.get(_FORCED, "")
    if forced not in ("", "0", "1"):
        raise ConfigError(f"{_FORCED} is '{forced}': it is 1 to show a run's progress on stderr, or 0 not to")
    if forced:
        return forced == "1"
    from rich.console import Console

    return (sys.stderr is not None and sys.stderr.isatty()) or Console().is_jupyter
