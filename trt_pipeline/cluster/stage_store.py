"""The kept results of stages, for machines that do not share the disk they lie on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trt_pipeline.cluster import parcel
from trt_pipeline.results import CandidateResult
from trt_pipeline.stages.cache import Entry, StageCache

Event = tuple[str, str, int, int]
"""Lane, the stage that began in it (empty: none did), and what of its stage is done, of how much."""


class StageStore:
    """What all nodes know of a run: kept results, what became of candidates, how far they are.

    It lives in a process of its own beside the cache of the run, as a Ray actor, so its methods never run at once.
    """

    def __init__(self, root: str, fresh: bool) -> None:
        """``fresh``: of the results in the cache at ``root``, only those that are made from now on count."""
        self._cache = StageCache(Path(root), clean=False)
        self._fresh, self._made = fresh, set[tuple[str, str]]()
        self._judged: list[CandidateResult] = []
        self._events: list[Event] = []

    def find(self, stage: str, key: str) -> bytes | None:
        """The kept result, packed; None where there is none."""
        if self._fresh and (stage, key) not in self._made:
            return None
        entry = self._cache.find(stage, key)
        return parcel.packed(entry.folder) if entry else None

    def keep(self, stage: str, key: str, entry: bytes) -> bytes | None:
        """Keep a packed result; returns the one to go on with instead, where another task brought one first.

        What a candidate was judged with has to stay what the run has of it.
        """
        if (first := self.find(stage, key)) is not None:
            return first
        staging = self._cache.stage()
        staging.rmdir()
        parcel.unpack(entry, staging)
        self._cache.take(stage, key, staging)
        self._made.add((stage, key))
        return None

    def judged(self) -> tuple[CandidateResult, ...]:
        """Candidates of which the run has the result."""
        return tuple(self._judged)

    def add_judged(self, result: CandidateResult) -> None:
        """The run has this result."""
        self._judged.append(result)

    def tell(self, event: Event) -> None:
        """Something happened that people watch."""
        self._events.append(event)

    def told(self) -> list[Event]:
        """What happened since this was last asked."""
        events, self._events = self._events, []
        return events


class RemoteStages(StageCache):
    """The cache of a task: in a folder of its own, and behind it the store."""

    def __init__(self, root: Path, store: Any) -> None:
        """``store``: handle of a `StageStore`, whose methods are called with ``.remote``."""
        super().__init__(root)
        self._store = store

    def find(self, stage: str, key: str) -> Entry | None:
        """As `StageCache.find`."""
        import ray

        if found := super().find(stage, key):
            return found
        content = ray.get(self._store.find.remote(stage, key))
        return None if content is None else self._taken(stage, key, content)

    def _taken(self, stage: str, key: str, content: bytes) -> Entry | None:
        """The entry that the store sent."""
        staging = self.stage()
        staging.rmdir()
        parcel.unpack(content, staging)
        self.take(stage, key, staging)
        return super().find(stage, key)

    def keep(self, stage: str, key: str, staging: Path, value: Any, seconds: float, peak_memory_mb: float) -> Entry:
        """As `StageCache.keep`; the run has it before the next stage begins."""
        import ray

        entry = super().keep(stage, key, staging, value, seconds, peak_memory_mb)
        first = ray.get(self._store.keep.remote(stage, key, parcel.packed(entry.folder)))
        return (self._taken(stage, key, first) if first else None) or entry
