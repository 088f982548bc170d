"""What the driver's library is asked: its functions by their real names, with the arguments that they have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trt_pipeline.engine import gpu

# As cuda.h declares them; only the GPU is made up.
DRIVER = r"""
#include <stddef.h>
#include <string.h>
static void *current = (void *)7;
static int retained = 0;
int cuInit(unsigned flags) { return STATUS; }
int cuDeviceGet(int *device, int ordinal) { *device = 3 + ordinal; return 0; }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "NVIDIA A10", length); return device != 3; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 6 : -1; return device != 3; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 23ul << 30; return 0; }
int cuCtxGetCurrent(void **context) { *context = current; return 0; }
int cuCtxSetCurrent(void *context) { current = context; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)(1ul << 40); retained++; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { retained--; return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) {
    *free = current == (void *)(1ul << 40) ? 20ul << 30 : 0; *total = 23ul << 30; return 0; }
int left_as_it_was(void) { return current == (void *)7 && retained == 0; }
"""
ASK = ("import ctypes, json; from trt_pipeline.engine import gpu; found = gpu.find(); "
       "print(json.dumps([found and found.model_dump(), ctypes.CDLL('libcuda.so.1').left_as_it_was()]))")


def _ask(folder: Path, status: int) -> list[object]:
    compiler = shutil.which("cc")
    assert compiler
    subprocess.run([compiler, "-shared", "-fPIC", f"-DSTATUS={status}", "-x", "c", "-", "-o",
                    str(folder / "libcuda.so.1")], input=DRIVER, text=True, check=True)
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True,
                          env=os.environ | {"LD_LIBRARY_PATH": str(folder)})
    answer: list[object] = json.loads(done.stdout)
    return answer


def test_it_is_told_with_what_is_free_of_its_memory(tmp_path: Path) -> None:
    found, restored = _ask(tmp_path, 0)
    assert isinstance(found, dict)
    assert found.pop("driver") is not None  # the kernel's, so whatever this machine has
    assert found == {"name": "NVIDIA A10", "compute_capability": "8.6", "total_bytes": 23 * 2**30,
                     "free_bytes": 20 * 2**30, "cuda": "12.4"}
    assert restored == 1


def test_a_driver_without_a_gpu_is_none(tmp_path: Path) -> None:
    assert _ask(tmp_path, 100) == [None, 1]


@pytest.mark.gpu
def test_the_real_one_has_a_name_and_memory() -> None:
    found = gpu.find()
    assert found is not None
    assert 0 < found.free_bytes <= found.total_bytes
    assert all((found.name, found.driver, found.compute_capability))
