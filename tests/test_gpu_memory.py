"""The GPU's memory and who holds it, through NVIDIA's own binding: on a library that tells what a test wrote down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trt_pipeline import device, gpu_memory
from trt_pipeline.errors import ConfigError, MissingError

SOURCE = Path(__file__).parent / "nvml_stub" / "nvml_stub.c"
MB = 2**20
GPUS = [f"gpu GPU-aaaa {16000 * MB} {{free}} NVIDIA T4", f"gpu GPU-abbb {24000 * MB} {20000 * MB} NVIDIA L4",
        f"gpu MIG-cccc {10000 * MB} {9000 * MB} NVIDIA H100 MIG 1g.10gb"]
MODEL = Path("models/enko/1")


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, SOURCE], check=True)
    return library


class Machine:
    """A machine with three GPUs, the last a part of one; processes started here see them."""

    def __init__(self, stub: Path, folder: Path) -> None:
        self._stub, self._state = stub, folder / "gpus"

    def has(self, free: int, *processes: str) -> None:
        """Set what is free of the first GPU, in MB, and the lines of processes."""
        self._state.write_text("\n".join([GPUS[0].format(free=free * MB), *GPUS[1:], *processes]) + "\n")

    def start(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        path = f"{self._stub.parent}:{os.environ.get('LD_LIBRARY_PATH', '')}"
        return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=120,
                              env=os.environ | {"LD_LIBRARY_PATH": path, "NVML_STUB": str(self._state)} | variables)

    def asked(self, code: str, **variables: str) -> Any:
        """The JSON that ``code`` prints."""
        done = self.start("-c", code, **variables)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def machine(stub: Path, tmp_path: Path) -> Machine:
    return Machine(stub, tmp_path)


_EXAMINE = """
import json, os
from trt_pipeline import gpu_memory
found = []
for visible in json.loads(os.environ["VISIBLE"]):
    if visible is None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    found.append([gpu.model_dump(mode="json") for gpu in gpu_memory.gpus()])
print(json.dumps(found))
"""


def test_memory_and_holders_of_the_gpus_that_cuda_would_see(machine: Machine) -> None:
    machine.has(1000, f"process 0 {os.getpid()} {200 * MB}", f"process 0 4194303 {14800 * MB}", "process 1 4194302 -1")
    expected = {None: "T4 L4 MIG", "": "", "-1": "", "1": "L4", "1,0": "L4 T4", "0,7,1": "T4", "0,x": "T4",
                "GPU-ab": "L4", "GPU-a": "", "MIG-cccc,1": "MIG L4", "MIG-none": ""}
    found = machine.asked(_EXAMINE, VISIBLE=json.dumps(list(expected)))
    short = {"NVIDIA T4": "T4", "NVIDIA L4": "L4", "NVIDIA H100 MIG 1g.10gb": "MIG"}
    assert [" ".join(short[gpu["name"]] for gpu in gpus) for gpus in found] == list(expected.values())
    first, second, _ = found[0]
    assert (first["total"], first["free"]) == (16000 * MB, 1000 * MB)
    mine = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    assert [(holder["pid"], holder["used"] // MB) for holder in first["holders"]] == [(4194303, 14800),
                                                                                    (os.getpid(), 200)]
    assert [holder["name"] for holder in first["holders"]] == ["", mine]
    assert [holder["used"] for holder in second["holders"]] == [None]


def test_run_names_who_holds_the_gpu_instead_of_dying_of_it(machine: Machine) -> None:
    machine.has(300, f"process 0 {os.getpid()} {15700 * MB}")
    done = machine.start("-m", "trt_pipeline", "run", str(MODEL), "--signature", "translate")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert f"the GPU is held by process {os.getpid()} (" in done.stderr
    assert "use --device cpu, or stop it" in done.stderr
    assert "--per_process_gpu_memory_fraction=0.9" in done.stderr


_ROOM = """
import json, os
from pathlib import Path
from trt_pipeline import doctor, gpu_memory
from trt_pipeline.errors import MissingError
from trt_pipeline.serve import gpu_room, models_config
def said(check, *arguments):
    try:
        return check(*arguments)
    except MissingError as error:
        return str(error)
serving, state = Path(os.environ["SERVING"]), Path(os.environ["NVML_STUB"])
config = models_config.of_folders({name: serving / name for name in "ab"})
enough = said(gpu_room.check_room, config)
state.write_text(state.read_text().replace(str(5000 * 2**20), str(4999 * 2**20)))
short, too_much = said(gpu_room.check_room, config), said(gpu_memory.check, 20000 * 2**20, "it", "take another")
print(json.dumps([enough, short, too_much, [finding.model_dump() for finding in doctor._gpus()]]))
"""


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    """Two models, for which 3000 and 2600 MB of a GPU's memory were measured."""
    for name, measured in (("a", 3000), ("b", 2600)):
        folder = tmp_path / "serving" / name / "1"
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").write_bytes(b"graph")
        (folder / "trt_pipeline.json").write_text(json.dumps({"memory_mb": {"host": 900, "gpu": measured}}))
    return tmp_path / "serving"


def test_serve_wants_room_for_all_of_its_models_and_doctor_says_what_there_is(machine: Machine, serving: Path) -> None:
    machine.has(5000, f"process 0 4194303 {11000 * MB}", f"process 0 4194302 {1 * MB}")
    enough, short, too_much, findings = machine.asked(_ROOM, SERVING=str(serving))
    assert enough is None
    assert short == (
        "the GPU is held by process 4194303 and process 4194302: of its 16000 MB 4999 are free, and 2 model versions "
        "may take 5000: serve fewer, or on the CPU with CUDA_VISIBLE_DEVICES=-1, or stop it; were it TensorFlow "
        "Serving, --per_process_gpu_memory_fraction=0.68 would leave enough")
    assert too_much == ("the GPU is too small: of its 16000 MB 4999 are free, and it may take 20600: take another")
    gpu, memory = findings
    assert (gpu["what"], gpu["ok"]) == ("GPU", True)
    assert gpu["found"].endswith("; driver 535.1")
    assert (memory["what"], memory["ok"]) == ("GPU memory", False)
    assert "4999 of 16000 MB free; process 4194303 holds 11000 MB; process 4194302 holds 1 MB" in memory["found"]
    assert "--per_process_gpu_memory_fraction" in memory["cure"]


def test_a_benchmarks_process_is_asked_for_its_share(machine: Machine) -> None:
    machine.has(9000)
    found = machine.asked("""
import json, os
from pathlib import Path
from trt_pipeline.benchmarking.runner_process import RunnerProcess, Side
with RunnerProcess(Side.model_construct(backend="tensorflow", python=None)) as runner:
    before = runner.gpu_memory_mb()
    with Path(os.environ["NVML_STUB"]).open("a") as state:
        for gpu in (0, 1):
            print(f"process {gpu} {runner._process.pid} {512 * 2**20}", file=state)
        print(f"process 0 4194303 {2**30}", file=state)
    print(json.dumps([before, runner.gpu_memory_mb()]))
""")
    assert found == [None, 1024.0]


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
def test_without_a_driver_nothing_is_known_and_nothing_refused() -> None:
    assert gpu_memory.gpus() is None
    assert gpu_memory.driver() is None
    assert gpu_memory.used_by(os.getpid()) is None
    gpu_memory.check(2**50, "it", "")
    with pytest.raises(MissingError, match="--device gpu: no NVIDIA GPU"):
        device.choose("gpu", MODEL)


def test_a_device_is_cpu_or_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--device 'gpus': write cpu or gpu"):
        device.choose("gpus", MODEL)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    device.choose("cpu", MODEL)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"


@pytest.mark.gpu
def test_a_real_gpu_says_what_this_process_holds() -> None:
    before = gpu_memory.gpus()
    assert before
    assert 0 < before[0].free <= before[0].total
    code = """
import json, os
import tensorflow as tf
from trt_pipeline import device, gpu_memory
from pathlib import Path
device.choose("gpu", Path("models/enko/1"))
kept = tf.ones([64, 2**20])  # 256 MB
free = gpu_memory.gpus()[0].free
print(json.dumps([gpu_memory.used_by(os.getpid()), free]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    used, free = json.loads(done.stdout.splitlines()[-1])
    assert before[0].free - free > 200 * MB
    assert used is None or 200 * MB < used < before[0].total / 2, "TensorFlow takes what it needs, not all"
