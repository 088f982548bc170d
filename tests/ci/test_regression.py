"""A baseline: slower beyond its intervals is a regression, noise is not, another machine is no comparison."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import factory
import numpy as np
import pytest

from trt_pipeline.backends.base import Artifact
from trt_pipeline.benchmarking import interleaved
from trt_pipeline.benchmarking.interleaved import BenchmarkResult
from trt_pipeline.benchmarking.runner_process import Side
from trt_pipeline.benchmarking.statistics import Ratio
from trt_pipeline.ci import baseline, gate
from trt_pipeline.ci.conclude import conclude
from trt_pipeline.ci.outcome import GateReport
from trt_pipeline.errors import GateError, InputError, OutputError
from trt_pipeline.model.contract import Contract, SignatureContract, TensorContract
from trt_pipeline.results import CandidateResult
from trt_pipeline.run_result import RunResult
from trt_pipeline.samples import store

NAME = "tensorflow/fp32"
SLEEP_S = 0.005
REPEATS = 20


class Sleepers:
    """Times a candidate that sleeps against an original that sleeps, in the benchmark's own processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        vector = TensorContract(dtype="float32", shape=(None, 1))
        serve = SignatureContract(name="serve", method_name="predict", inputs={"x": vector}, outputs={})
        self.contract = Contract(tags=("serve",), signatures={"serve": serve}, assets={}, extra_assets={}, tables=0,
                                 variable_bytes=0, tensorflow_version="2.14.1")
        store.write({"x": np.zeros((4, 1), np.float32)}, folder / "samples")

    def time(self, times_as_long: float) -> BenchmarkResult:
        return interleaved.compare(self._side(1.0), self._side(times_as_long), self.contract.signatures, (1,), 0.1)

    def _side(self, times_as_long: float) -> Side:
        folder = self.folder / str(times_as_long)
        folder.mkdir(exist_ok=True)
        (folder / "seconds").write_text(str(SLEEP_S * times_as_long))
        return Side(backend="original", artifact=Artifact(kind="savedmodel", files={"serve": "model"}), folder=folder,
                    contract=self.contract, samples={"serve": self.folder / "samples"}, padding={})


@pytest.fixture
def sleepers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sleepers:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "sleeping"))
    monkeypatch.setattr(interleaved, "_BLOCK_S", 0.03)  # half a second a comparison instead of two
    return Sleepers(tmp_path)


def a_run(number: int = 0, /, **fields: Any) -> RunResult:
    """A run of the original and one candidate, of which ``fields`` are known."""
    good = factory.judged(NAME, 1.5, 3e-4).model_copy(update=fields)
    return factory.run((factory.ORIGINAL, good), (), run_id=f"run-{number}")


def timed(*ratios: Ratio) -> BenchmarkResult:
    """Timings of a candidate with these ratios of its median latency, batch sizes 1, 2, ..."""
    one = factory.benchmark(1.5, (1,))
    return one.model_copy(update={"batches": tuple(
        one.batches[0].model_copy(update={"batch_size": size, "ratios": one.batches[0].ratios | {"latency_p50": ratio}})
        for size, ratio in enumerate(ratios, 1))})


def against(file: Path, run: RunResult) -> GateReport:
    return gate.judge(gate.checks(baseline_file=file), run)


def begin(file: Path, *runs: RunResult) -> None:
    """Write a baseline of ``runs`` as `--write-baseline` does."""
    asked = gate.checks(baseline_file=file, write_baseline=True)
    for run in runs:
        conclude(asked, [run.model_copy(update={"gate": GateReport(passed=True)})])


@pytest.mark.alone
@pytest.mark.slow
def test_ten_per_cent_slower_misses_the_gate_and_noise_never_does(sleepers: Sleepers, tmp_path: Path) -> None:
    """Against a baseline of one run only, the hardest: of several, the widest interval counts."""
    file = tmp_path / "baseline.json"
    begin(file, a_run(benchmark=sleepers.time(1.0)))

    slower = against(file, a_run(1, benchmark=sleepers.time(1.1)))
    assert [(one.candidate, one.what) for one in slower.regressions] == [(NAME, "latency_p50@1 of serve")]
    with pytest.raises(GateError, match=r"demo missed the gate: tensorflow/fp32: latency_p50@1 of serve: 0\.9"):
        conclude(gate.checks(baseline_file=file), [a_run().model_copy(update={"gate": slower})])

    repeats = [against(file, a_run(2 + number, benchmark=sleepers.time(1.0))) for number in range(REPEATS)]
    assert [one.reason for one in repeats] == [""] * REPEATS
    assert all(one.compared == 1 for one in repeats)


def test_intervals_have_to_part(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    begin(file, a_run(benchmark=timed(Ratio(value=1.5, low=1.4, high=1.6), Ratio(value=1.5, low=1.4, high=1.6))))
    touching, parted = Ratio(value=1.3, low=1.2, high=1.38), Ratio(value=1.3, low=1.25, high=1.36)
    found = against(file, a_run(1, benchmark=timed(touching, parted)))
    assert [str(one) for one in found.regressions] == [
        "tensorflow/fp32: latency_p50@2 of serve: 1.30x [1.25, 1.36], the baseline has 1.50x [1.40, 1.60] of the "
        "original's speed"]
    assert against(file, a_run(2, benchmark=timed(Ratio(value=3, low=2.9, high=3.1)))).passed, "faster is no regression"


def test_several_runs_are_one_envelope(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    begin(file, *(a_run(n, benchmark=timed(Ratio(value=v, low=v - 0.02, high=v + 0.02)))
                  for n, v in enumerate((1.5, 1.42, 1.47))))
    assert against(file, a_run(9, benchmark=timed(Ratio(value=1.4, low=1.38, high=1.41)))).passed
    slower = against(file, a_run(9, benchmark=timed(Ratio(value=1.3, low=1.28, high=1.32))))
    assert "the baseline has 1.47x [1.40, 1.52] in 3 runs" in slower.reason


def test_the_newest_ten_runs_of_each_machine_are_kept_and_no_measurement_counts_twice(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    begin(file, a_run(99).model_copy(update={"environment": {"cpu": "another"}}))
    runs = [a_run(n, benchmark=timed(Ratio(value=1 + n / 100, low=1, high=2))) for n in range(12)]
    begin(file, *runs, a_run(77, benchmark=runs[-1].candidates[1].benchmark))
    held = baseline.read(file).models["demo"]
    assert [one.run_id for one in held] == ["run-99", *(f"run-{n}" for n in range(2, 12))]


def test_no_measurement_counts_twice_whose_error_is_beyond_any_number(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    known = factory.verdict(0.3, reason="wrong")
    output = known.outputs[0].model_copy(update={"figures": tuple(
        one.model_copy(update={"max_scaled": math.inf}) for one in known.outputs[0].figures)})
    beyond = known.model_copy(update={"outputs": (output,)})
    assert beyond.error == math.inf
    begin(file, *(a_run(n, status="rejected", reason="wrong", verdict=beyond) for n in range(2)))
    held, = baseline.read(file).models["demo"]
    assert (held.run_id, held.candidates[NAME].parity) == ("run-0", None)


def test_a_run_that_misses_the_gate_does_not_lower_the_bar(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    asked = gate.checks(baseline_file=file, write_baseline=True)
    with pytest.raises(GateError):
        conclude(asked, [a_run().model_copy(update={"gate": GateReport(passed=False, reason="slower")})])
    assert not file.exists()


@pytest.mark.parametrize(("fields", "what"), [
    ({"status": "rejected", "reason": "wrong"}, "status: rejected, the baseline has ok"),
    ({"status": "failed", "verdict": None, "benchmark": None}, "status: failed, the baseline has ok"),
    ({"verdict": factory.verdict(5e-4)}, "parity: 0.0005, the baseline has 0.0003"),
    ({"verdict": factory.verdict(4e-4)}, ""),
])
def test_status_and_parity_may_not_get_worse(tmp_path: Path, fields: dict[str, Any], what: str) -> None:
    file = tmp_path / "baseline.json"
    begin(file, a_run())
    assert [str(one) for one in against(file, a_run(1, **fields)).regressions] == (
        [f"tensorflow/fp32: {what}"] if what else [])


def test_what_was_exact_stays_so_but_for_its_last_bits(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    begin(file, a_run(verdict=factory.verdict(0.0)))
    assert against(file, a_run(1, verdict=factory.verdict(1e-6))).passed
    assert not against(file, a_run(1, verdict=factory.verdict(0.0, match=0.999))).passed


def test_what_was_never_good_and_what_is_new_cannot_get_worse(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    rejected: CandidateResult = factory.judged(NAME, 3.0, 0.3, "wrong")
    begin(file, factory.run((factory.ORIGINAL, rejected), (), run_id="run-0"))
    slower = factory.judged(NAME, 1.0, 0.5, "wrong")
    assert against(file, factory.run((factory.ORIGINAL, slower, factory.judged("onnxruntime/fp32", 0.1, 0.1)), ())
                   ).passed


@pytest.mark.parametrize("environment", [{"cpu": "Some CPU @ 2.5 GHz", "gpu": "NVIDIA H100"}, {"cpu": "another"}])
def test_another_machine_is_no_comparison(tmp_path: Path, environment: dict[str, str]) -> None:
    file = tmp_path / "baseline.json"
    begin(file, a_run())
    found = against(file, a_run(1, benchmark=timed(Ratio(value=0.1, low=0.1, high=0.1))).model_copy(
        update={"environment": environment}))
    assert (found.passed, found.compared, found.regressions) == (True, 0, ())
    assert f"has no run of demo on a machine like this (cpu {environment['cpu']}" in found.notes[0]


def test_what_changed_since_is_told(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    begin(file, a_run())
    now = factory.run((factory.ORIGINAL,), (), model_digest="0" * 64, run_id="run-1",
                      environment={"python": "3.11.9", "cpu": "Some CPU @ 2.5 GHz", "tensorrt": ""})
    assert against(file, now).notes == (
        "not in this run, so not compared: tensorflow/fp32",
        "the baseline is of another model or other samples: parity errors are not compared",
        "versions changed since the baseline: python 3.11.7 to 3.11.9")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 2, "models": {}}', '{"format": 1, "runs": []}'])
def test_a_damaged_baseline_is_one_line(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "baseline.json"
    file.write_text(damage)
    with pytest.raises(InputError) as caught:
        gate.checks(baseline_file=file, write_baseline=True)
    assert str(caught.value).startswith(f"the baseline {file} is damaged")
    assert caught.value.exit_status == 2


def test_a_baseline_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "baseline.json"
    begin(file, a_run())
    before = file.read_text()
    assert json.loads(before)["models"]["demo"][0]["run_id"] == "run-0"
    assert [found.name for found in file.parent.iterdir()] == ["baseline.json"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="No space left on device"):
        begin(file, a_run(1, verdict=factory.verdict(0.0)))
    assert file.read_text() == before
    assert [found.name for found in file.parent.iterdir()] == ["baseline.json"]
