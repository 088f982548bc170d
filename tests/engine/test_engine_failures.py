"""Why a build failed, from lines that TensorRT logged on users' machines (its own issue tracker has them)."""

from __future__ import annotations

import pytest

from trt_pipeline.engine import build, failures
from trt_pipeline.engine.failures import Failure
from trt_pipeline.engine.flags import OBEY, PREFER, Flags
from trt_pipeline.engine.log import Message

GIB = 2**30
ECHO = ("2: [builder.cpp::buildSerializedNetwork::751] Error Code 2: Internal Error (Assertion engine != nullptr "
        "failed. )")
OUT_OF_MEMORY_10 = [
    ("ERROR", "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)"),
    ("WARNING", "Requested amount of GPU memory (15485030400 bytes) could not be allocated. There may not be enough "
                "free memory for allocation to succeed."),
    ("ERROR", "Error Code: 9: Skipping tactic 0x0000000000000000 due to exception [tunable_graph.cpp:create:117] "
              "autotuning: User allocator error allocating 15485030400-byte buffer"),
    ("ERROR", "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any implementation for "
              "node {ForeignNode[/1/Constant_36_output_0.../1/Slice_4]}.)")]
OUT_OF_MEMORY_8 = [("ERROR", "2: [virtualMemoryBuffer.cpp::resizePhysical::144] Error Code 2: OutOfMemory (no further "
                             "information)"), ("ERROR", ECHO)]
DEVICE_TOO_SMALL = [
    ("WARNING", "Tactic Device request: 9385MB Available: 7649MB. Device memory is insufficient to use tactic."),
    ("WARNING", "Skipping tactic 3 due to insufficient memory on requested size of 9385 detected for tactic "
                "0x0000000000000004.\nTry decreasing the workspace size with IBuilderConfig::setMemoryPoolLimit()."),
    ("ERROR", "10: [optimizer.cpp::computeCosts::3869] Error Code 10: Internal Error (Could not find any "
              "implementation for node Conv_12.)")]
NO_IMPLEMENTATION = [
    ("WARNING", "Skipping tactic 0x0000000000000000 due to Myelin error: Autotuner: no tactics to implement operation"),
    ("ERROR", "Error[10]: [optimizer.cpp::computeCosts::3728] Error Code 10: Internal Error (Could not find any "
              "implementation for node {ForeignNode[177...Reshape_81 + (Unnamed Layer* 146) [Shuffle]]}.)"),
    ("ERROR", ECHO)]
LITTLE_WORKSPACE_8_2 = [
    ("WARNING", "Skipping tactic 0 due to insuficient memory on requested size of 1170309120 detected for tactic 0."),
    ("ERROR", "10: [optimizer.cpp::computeCosts::2011] Error Code 10: Internal Error (Could not find any "
              "implementation for node {ForeignNode[transformer.wte.weight...MatMul_2899]}.)"),
    ("ERROR", "2: [builder.cpp::buildSerializedNetwork::609] Error Code 2: Internal Error (Assertion enginePtr != "
              "nullptr failed. )")]
# Pieced together from the texts in libnvinfer 8.5, as the one with precision constraints below.
LITTLE_WORKSPACE_8_5 = [
    ("ERROR", "10: [optimizer.cpp::computeCosts::3728] Error Code 10: Internal Error (Could not find any "
              "implementation for node ArgMax_260 due to insufficient workspace. See verbose log for requested "
              "sizes.)")]
NO_SCALES = [("ERROR", "4: [standardEngineBuilder.cpp::initCalibrationParams::1460] Error Code 4: Internal Error "
                       "(Calibration failure occurred with no scaling factors detected. This could be due to no int8 "
                       "calibrator or insufficient custom scales for network layers. Please see int8 sample to setup "
                       "calibration correctly.)"), ("ERROR", ECHO)]


def _classified(lines: list[tuple[str, str]]) -> Failure:
    return failures.classify([Message(*line) for line in lines])


@pytest.mark.parametrize(("lines", "cause", "node", "size"), [
    (OUT_OF_MEMORY_10, "memory", "{ForeignNode[/1/Constant_36_output_0.../1/Slice_4]}", 15485030400),
    (OUT_OF_MEMORY_8, "memory", "", 0),
    (DEVICE_TOO_SMALL, "memory", "Conv_12", 9385 * 2**20),
    (NO_IMPLEMENTATION, "implementation", "{ForeignNode[177...Reshape_81 + (Unnamed Layer* 146) [Shuffle]]}", 0),
    (LITTLE_WORKSPACE_8_2, "workspace", "{ForeignNode[transformer.wte.weight...MatMul_2899]}", 1170309120),
    (LITTLE_WORKSPACE_8_5, "workspace", "ArgMax_260", 0),
    (NO_SCALES, "other", "", 0),
    ([], "other", "", 0),
])
def test_the_cause_is_told_with_where_and_how_much(lines: list[tuple[str, str]], cause: str, node: str,
                                                   size: int) -> None:
    found = _classified(lines)
    assert (found.cause, found.node, found.requested_bytes) == (cause, node, size)


def test_tactics_that_were_skipped_in_a_build_that_failed_otherwise_are_not_the_cause() -> None:
    assert _classified([DEVICE_TOO_SMALL[1], *NO_SCALES]).cause == "other"


def test_the_reason_is_tensorrts_own_without_its_source_files() -> None:
    assert str(_classified(NO_SCALES)).startswith("Calibration failure occurred with no scaling factors detected.")
    assert str(_classified(OUT_OF_MEMORY_10)) == (
        "the GPU's memory does not suffice at {ForeignNode[/1/Constant_36_output_0.../1/Slice_4]} (14.4 GiB were asked "
        "for)")
    assert str(_classified([])) == "it gives no reason"


def test_out_of_memory_the_workspace_is_halved_until_that_saves_nothing() -> None:
    failure, flags, workspace, notes = _classified(OUT_OF_MEMORY_8), Flags(), GIB, []
    while again := build.less(failure, flags, workspace, 4 * GIB):
        flags, workspace, note = again
        notes.append(note)
    assert workspace == 16 * 2**20
    assert len(notes) == 6
    assert notes[0] == "the GPU's memory does not suffice: built with a workspace of 0.50 GiB"


def test_a_layer_that_needs_more_workspace_gets_all_there_is_once() -> None:
    failure = _classified(LITTLE_WORKSPACE_8_2)
    again = build.less(failure, Flags(), GIB, 4 * GIB)
    assert again is not None
    assert again[1] == 4 * GIB
    assert build.less(failure, Flags(), again[1], 4 * GIB) is None


def test_a_layer_without_implementation_in_float32_may_have_another_precision_once() -> None:
    failure, flags = _classified(NO_IMPLEMENTATION), Flags(on=("FP16", OBEY))
    again = build.less(failure, flags, GIB, GIB)
    assert again is not None
    assert again[0].on == ("FP16", PREFER)
    assert build.less(failure, again[0], GIB, GIB) is None
    assert build.less(failure, Flags(on=("FP16",)), GIB, GIB) is None
    assert build.less(_classified(NO_SCALES), flags, GIB, GIB) is None


def test_the_constraint_itself_may_be_the_cause() -> None:
    found = _classified([("ERROR", "4: [optimizer.cpp::x::1] Error Code 4: Internal Error (Softmax_3 requires foreign "
                                   "node optimizations incompatible with int8 precision constraints. "
                                   "kOBEY_PRECISION_CONSTRAINTS was set, so treating as error.)")])
    assert found.cause == "implementation"
    assert build.less(found, Flags(on=("INT8", OBEY)), GIB, GIB) is not None
