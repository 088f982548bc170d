"""Work that would hold up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def off_loop(large: bool, work: Callable[..., _Result], *arguments: Any) -> _Result:
    """What ``work`` returns; in a thread where it is ``large``, for a thread costs more than a little work does."""
    return await asyncio.to_thread(work, *arguments) if large else work(*arguments)
