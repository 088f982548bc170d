"""Who is told how a run goes."""

from __future__ import annotations

from typing import Protocol

from trt_pipeline.results import CandidateResult


class Observer(Protocol):
    """Who is told how a run goes; the terminal's progress bars are one."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def progress(self, done: int, total: int) -> None:
        """The stage has done ``done`` of ``total``."""

    def candidate(self, result: CandidateResult) -> None:
        """A candidate has been judged."""


class Silent:
    """Nobody watches."""

    def stage(self, name: str) -> None: ...

    def progress(self, done: int, total: int) -> None: ...

    def candidate(self, result: CandidateResult) -> None: ...
