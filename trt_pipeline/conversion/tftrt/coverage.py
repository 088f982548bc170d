"""What the TensorRT pass took into engines, and why it left the rest."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trt_pipeline.conversion.tftrt import flops
from trt_pipeline.conversion.tftrt.listener import Listener
from trt_pipeline.conversion.tftrt.segment import ENGINE, engines
from trt_pipeline.model.coverage import Coverage, LeftOut
from trt_pipeline.model.operations import STRUCTURAL_OPS

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2

# What the pass prints for each operation type that it leaves out, with this variable set.
_REPORT_VARIABLE = "TF_TRT_SHOW_DETAILED_REPORT"
_TYPE_LINE = re.compile(r"^\t- (\S+) -> \d+x$")
_REASON_LINE = re.compile(r"^\t\t- \[Count: (\d+)x\] (.*)$")
# Not operations of the model: ends of functions, and what carries control.
_NOT_COUNTED = STRUCTURAL_OPS | {"_Arg", "_Retval", ENGINE}
_AT_THE_EDGE = "an input or output of the graph"
_TOO_SMALL = "TensorRT could take it, but there is too little work around it for an engine"


@contextlib.contextmanager
def reporting() -> Iterator[Listener]:
    """Have the pass print its report, and catch it."""
    before = os.environ.get(_REPORT_VARIABLE)
    os.environ[_REPORT_VARIABLE] = "1"
    try:
        with Listener() as listener:
            yield listener
    finally:
        if before is None:
            del os.environ[_REPORT_VARIABLE]
        else:
            os.environ[_REPORT_VARIABLE] = before


def measure(segmented: graph_pb2.GraphDef, report: str) -> Coverage:
    """Coverage of a graph that went through the pass.

    Args:
        report: what the pass wrote, as `reporting` caught it.
    """
    segments = {node.attr["segment_func"].func.name for node in engines(segmented)}
    inside: Counter[str] = Counter()
    outside = Counter(node.op for node in segmented.node)
    largest = 0
    for function in segmented.library.function:
        operations = Counter(node.op for node in function.node_def)
        if function.signature.name in segments:
            inside += operations
            largest = max(largest, len(function.node_def))
        else:
            outside += operations
    inside, outside = _counted(inside), _counted(outside)
    work_inside, work = flops.count(segmented, segments)
    return Coverage(
        engines=len(segments), nodes_in_largest=largest, operations=inside.total() + outside.total(),
        operations_in_engines=inside.total(), flops=work, flops_in_engines=work_inside,
        left_out=tuple(_left_out(outside, _reasons(report))))


def _counted(operations: Counter[str]) -> Counter[str]:
    return Counter({op: count for op, count in operations.items() if op not in _NOT_COUNTED})


def _reasons(report: str) -> dict[str, Counter[str]]:
    """Operation type -> reason -> how many, over every graph that the pass reported on."""
    found: dict[str, Counter[str]] = {}
    op = ""
    for line in report.splitlines():
        if match := _TYPE_LINE.match(line):
            op = match[1]
        elif (match := _REASON_LINE.match(line)) and op:
            found.setdefault(op, Counter())[_in_short(match[2])] += int(match[1])
    return found


def _in_short(reason: str) -> str:
    if reason.startswith("excluded by segmenter option"):
        return _AT_THE_EDGE
    reason = re.sub(r"^(Op type|\w+ op is) .*not supported\.?$", "TensorRT's converter does not know it", reason)
    reason = reason.removeprefix("Failed to convert at least one input to a TRT_TensorOrWeights: ")
    return reason.strip().rstrip(".")[:160]


def _left_out(outside: Counter[str], reasons: dict[str, Counter[str]]) -> Iterator[LeftOut]:
    for op, count in outside.most_common():
        explained = 0
        for why, reported in reasons.get(op, Counter()).most_common():
            # The report was made before folding, which may have removed some of what it speaks of.
            if times := min(reported, count - explained):
                explained += times
                yield LeftOut(op=op, count=times, why=why)
        if explained < count:
            yield LeftOut(op=op, count=count - explained, why=_TOO_SMALL)


