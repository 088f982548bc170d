"""One of several candidates that work at once, for tests that pretend there are some."""

from __future__ import annotations

from trt_pipeline.results import CandidateResult
from trt_pipeline.stages.observer import Observer


class Lane:
    """The observer of one of several that work at once: passes on to ``observer`` what happens in lane ``name``."""

    def __init__(self, observer: Observer, name: str) -> None:
        self._observer, self._name = observer, name

    def stage(self, name: str, *, lane: str = "") -> None:
        self._observer.stage(name, lane=lane or self._name)

    def progress(self, done: int, total: int, *, lane: str = "") -> None:
        self._observer.progress(done, total, lane=lane or self._name)

    def candidate(self, result: CandidateResult) -> None:
        self._observer.candidate(result)
