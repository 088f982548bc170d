"""Limits of memory from what was measured, and what they are where nothing was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from tests.publish.candidates import ORIGINAL, candidate, ratio
from tests.publish.folders import GPU, publish
from trt_pipeline.publish import memory
from trt_pipeline.publish.memory import Memory


def session(text: str) -> Any:
    from tensorflow.core.protobuf import config_pb2

    return text_format.Parse(text, config_pb2.ConfigProto())


def test_a_limit_is_the_sum_with_a_margin() -> None:
    assert memory.host_limit_mb([Memory(host=400), Memory(host=100)]) == 768  # 750, in steps of 64
    assert memory.gpu_limit([Memory(host=900, gpu=400), Memory(gpu=100)]) == memory.GpuLimit(
        limit_mb=640, measured=True)  # 625


def test_one_model_that_was_never_measured_leaves_no_limit() -> None:
    assert memory.host_limit_mb([Memory(host=400), Memory()]) is None
    assert memory.gpu_limit([Memory(gpu=400), Memory()]) is None
    assert memory.host_limit_mb([]) is None


@pytest.mark.parametrize("figure", [Memory(host=400), Memory(host=400, gpu=300, of_original=True)])
def test_what_was_not_measured_on_a_gpu_says_so(figure: Memory) -> None:
    limit = memory.gpu_limit([figure])
    assert limit
    assert not limit.measured
    assert "# GPU memory: not measured on a GPU" in memory.session_text(limit)


def test_the_session_s_limit_is_one_that_the_server_leaves_alone() -> None:
    """It overwrites the fraction in this file by that of its flag; with any but 0, virtual devices are refused."""
    options = session(memory.session_text(memory.GpuLimit(limit_mb=640, measured=True))).gpu_options
    assert list(options.experimental.virtual_devices[0].memory_limit_mb) == [640]
    assert (options.allow_growth, options.visible_device_list) == (True, "0")
    assert options.per_process_gpu_memory_fraction == 0


def test_the_original_stands_in_for_a_candidate_that_cannot_run_here() -> None:
    assert ORIGINAL.benchmark
    original = ORIGINAL.model_copy(update={"benchmark": ORIGINAL.benchmark.model_copy(update={"peak_memory_mb": 300})})
    pending, timed = candidate("tf-trt/fp16"), candidate("tensorflow/fp32", ratio(2.0))
    assert memory.of_candidate(pending, [original, pending]) == Memory(host=300, of_original=True)
    assert memory.of_candidate(timed, [original, timed]) == Memory()  # it has no figure of its own
    assert memory.of_candidate(pending, [pending]) == Memory()


def test_onnxruntime_on_triton_gets_its_limit_where_a_gpu_was_measured() -> None:
    assert memory.onnxruntime_parameters(Memory(host=300)) == {}
    assert memory.onnxruntime_parameters(Memory(gpu=300)) == {"gpu_mem_limit": str(512 * 2**20)}
    assert memory.onnxruntime_parameters(Memory(gpu=330)) == memory.onnxruntime_parameters(Memory(gpu=400))


def test_the_file_is_there_only_for_a_server_on_a_gpu(tmp_path: Path) -> None:
    file = tmp_path / "serving/tensorflow_session.config"
    publish(tmp_path)
    assert not file.exists()
    publish(tmp_path, kind="tensorrt-savedmodel", content="engine", host_mb=400, targets=GPU)
    limit = session(file.read_text()).gpu_options.experimental.virtual_devices[0].memory_limit_mb[0]
    assert limit == 1536  # 1.25 * (400 + 400 + 400): the version before, this, and one to come
    assert "not measured on a GPU" in file.read_text()
    assert "1536 MB of the GPU's memory: not measured on a GPU" in (tmp_path / "serving/compose.yaml").read_text()
    publish(tmp_path, content="plain", versions={"labels": {}, "serve": {"latest": 1}})
    # The image that loads the plain version alone is chosen among those that the config names now.
    assert not file.exists()
