"""Why TensorRT built nothing, from what it logged: each cause has a remedy of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from trt_pipeline.engine.log import Message
from trt_pipeline.frozen import Frozen

Cause = Literal["memory", "workspace", "implementation", "other"]

_NODE = re.compile(r"(?:Could not find any|no) implementation (?:for|of) (?:node|layer) (?P<node>.+?)"
                   r"(?: due to|\.\)|\.?$)", re.IGNORECASE | re.MULTILINE)
# The GPU had no more to give.
_MEMORY = re.compile(r"out of memory|OutOfMemory|User allocator error|GPU memory \(\d+ bytes\) could not be allocated"
                     r"|Device memory is insufficient|Try decreasing the workspace", re.IGNORECASE)
# The limit that the workspace was given, not the GPU, was in the way.
_WORKSPACE = re.compile(r"due to insufficient workspace|Try increasing the workspace", re.IGNORECASE)
# Every version spells it in another way, 8.2 with one f.
_SKIPPED = re.compile(r"due to insuff?icient memory on requested size of", re.IGNORECASE)
_REQUESTED = re.compile(r"(?:requested size of|GPU memory \(|Requested size was|allocating) ?(?P<size>\d+)",
                        re.IGNORECASE)
_CONSTRAINTS = re.compile(r"kOBEY_PRECISION_CONSTRAINTS was set|precision constraints", re.IGNORECASE)
# What follows from the error before it, and says nothing.
_ECHO = re.compile(r"Assertion engine(Ptr)? != nullptr failed|Engine could not be created")
_PLACE = re.compile(r"^(?:\d+: )?(?:Error\[\d+\]: )?(?:IBuilder::buildSerializedNetwork: )?(?:\[[^\]]+::\d+\] )?"
                    r"(?:Error Code:? \d+: )?")


class Failure(Frozen):
    """Why a build failed."""

    cause: Cause
    """"memory": the GPU's was used up. "workspace": a layer needs more scratch than it was allowed.
    "implementation": there is no kernel for a layer as it was asked for. "other": none of these."""
    node: str = ""
    """The layer that it failed at, where TensorRT names one."""
    requested_bytes: int = 0
    """The most that was asked for in vain, where TensorRT says so."""
    said: str = ""
    """TensorRT's own words."""

    def __str__(self) -> str:
        where = f" at {self.node}" if self.node else ""
        size = f" ({self.requested_bytes / 2**30:.1f} GiB were asked for)" if self.requested_bytes else ""
        known = {"memory": f"the GPU's memory does not suffice{where}{size}",
                 "workspace": f"the workspace does not suffice{where}{size}",
                 "implementation": f"TensorRT has no implementation{where}"}
        return known.get(self.cause, self.said or "it gives no reason")


def classify(messages: Iterable[Message]) -> Failure:
    """The cause in ``messages``.

    Out of memory comes first: a layer all of whose kernels ran out of it has "no implementation" too.
    """
    texts = [message.text for message in messages]
    errors = [message.text for message in messages if message.is_error and not _ECHO.search(message.text)]
    nodes = [found["node"].strip() for text in errors if (found := _NODE.search(text))]
    sizes = [_bytes(found) for text in texts for found in _REQUESTED.finditer(text)]
    cause: Cause = "other"
    if nodes and any(_WORKSPACE.search(text) for text in texts) and not any(map(_MEMORY.search, texts)):
        cause = "workspace"
    elif any(_MEMORY.search(text) for text in errors) or (nodes and any(map(_MEMORY.search, texts))):
        cause = "memory"
    elif nodes and any(map(_SKIPPED.search, texts)):
        cause = "workspace"
    elif nodes or any(_CONSTRAINTS.search(text) for text in errors):
        cause = "implementation"
    return Failure(cause=cause, node=nodes[-1] if nodes else "", said=plain(errors[0]) if errors else "",
                   requested_bytes=max(sizes, default=0) if cause in ("memory", "workspace") else 0)


def plain(text: str) -> str:
    """A message of TensorRT's without the place in its source, on one line."""
    bare = _PLACE.sub("", " ".join(text.split()))
    inner = re.fullmatch(r"(?:Internal Error|API Usage Error|Serialization) \((.*)\)", bare)
    return (inner.group(1) if inner else bare).strip()


def last_words(messages: Sequence[Message]) -> str:
    """The last that was logged, information aside: why TensorRT cannot start says a warning."""
    return "; ".join([plain(message.text) for message in messages if message.severity != "INFO"][-2:]) or (
        "it gives no reason")


def _bytes(found: re.Match[str]) -> int:
    # Later versions tell some sizes in MB, without saying so: nothing fails for want of so few bytes.
    size = int(found["size"])
    return size * 2**20 if size < 2**17 else size
