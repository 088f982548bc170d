"""What changes while a notebook's cell runs.

Rich's own way needs ipywidgets, in the kernel as well as in the front end; a display with an id is a part of Jupyter's
protocol, and every front end can replace it.
"""

from __future__ import annotations

from threading import Event, Thread
from typing import Any

from rich.jupyter import JupyterMixin

_EVERY_S = 0.5


class LiveCell:
    """Keeps ``shown``, something of Rich's, up to date in the output of the cell that runs."""

    def __init__(self, shown: JupyterMixin) -> None:
        self._shown = shown
        self._handle: Any = None
        self._ended = Event()
        self._refresher = Thread(target=self._refresh, daemon=True, name="trt-pipeline bars")

    def start(self) -> None:
        """Show it; where there is no IPython to show it with, nothing is."""
        try:
            from IPython.display import display  # type: ignore[import-not-found]
        except ImportError:
            return
        self._handle = display(self._shown, display_id=True)
        if self._handle is not None:
            self._refresher.start()

    def stop(self) -> None:
        """Take it away."""
        self._ended.set()
        if self._handle is not None:
            self._refresher.join()
            self._handle.update({"text/plain": "", "text/html": ""}, raw=True)
            self._handle = None

    def _refresh(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._handle.update(self._shown)
