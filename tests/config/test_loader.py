"""Every complaint names the file and the line; a typo also gets the nearest word; nothing hangs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trt_pipeline.config import loader
from trt_pipeline.errors import ConfigError

Complain = Callable[[str], str]
HEAD = "name: demo\nmodel: models/demo/1\nsamples:\n  validation: v.npz\n"  # four lines


@pytest.fixture
def complain(tmp_path: Path) -> Complain:
    """What `load` says about ``text``, without the file's name."""
    file = tmp_path / "demo.yaml"

    def call(text: str) -> str:
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            loader.load(file)
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(str(file)).removeprefix(":").strip()

    return call


def test_a_good_file_becomes_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(HEAD + "gate:\n  outputs:\n    logits: {close: {rtol: 1.0e-3}}\n")
    config = loader.load(file)
    assert config.name == "demo"
    assert str(config.gate.outputs["logits"]) == "close: rtol 0.001"


@pytest.mark.parametrize("name", ["enko", "koen"])
def test_the_committed_configurations_load(name: str) -> None:
    config = loader.load(loader.find(name))
    assert config.name == name
    assert "int8" in config.gate.precisions


@pytest.mark.parametrize(("text", "expected"), [
    # Unknown keys, at every depth.
    (HEAD + "objektive: x\n", "5: unknown key 'objektive'; did you mean 'objective'?"),
    (HEAD + "benchmark:\n  # slow\n  duratoin_s: 4\n",
     "7: unknown key 'benchmark.duratoin_s'; did you mean 'duration_s'?"),
    (HEAD + "targets:\n  - {kind: triton, version: '24.10'}\n  - kind: triton\n    versoin: '24'\n    version: '25'\n",
     "8: unknown key 'targets.1.versoin'; did you mean 'version'?"),
    (HEAD + "gate:\n  precisions:\n    int8:\n      logits:\n        close: {scald: 0.1}\n",
     "9: unknown key 'gate.precisions.int8.logits.close.scald'; did you mean 'scaled'?"),
    (HEAD + "benchmark: {zzz: 1}\n", "5: unknown key 'benchmark.zzz'; there are batch_sizes, duration_s, threads"),
    (HEAD + "backends:\n  tensorflow:\n    pyton: /usr/bin/python3\n",
     "7: unknown key 'backends.tensorflow.pyton'; did you mean 'python'?"),
    # Missing keys.
    ("name: demo\nmodel: m\n", "1: 'samples' is missing"),
    ("\n\nname: demo\nmodel: m\nsamples:\n  calibration: c.npz\n", "5: 'samples.validation' is missing"),
    (HEAD + "targets:\n  - version: '24.10'\n", "6: 'targets.0.kind' is missing"),
    # Wrong types.
    (HEAD + "max_batch_size: many\n",
     "5: max_batch_size: Input should be a valid integer, unable to parse string as an integer"),
    (HEAD + "benchmark:\n  batch_sizes:\n    - 1\n    - x\n",
     "8: benchmark.batch_sizes.1: Input should be a valid integer, unable to parse string as an integer"),
    (HEAD + "benchmark: 4\n", "5: benchmark: Input should be a valid dictionary or instance of BenchmarkSettings"),
    ("name: demo\nmodel: m\nsamples:\n  validation: 3\n", "4: samples.validation: Input should be a valid string"),
    ("name: demo\nmodel: m\nsamples:\n  validation:\n    serve: 3\n",
     "5: samples.validation.serve: Input should be a valid string"),
    (HEAD + "targets:\n  - kind: triton\n    version: 24.10\n", "7: targets.0.version: Input should be a valid string"),
    # Values that mean nothing.
    (HEAD + "candidates: [tensorflow/fp32,\n  tensorflo/fp32]\n", "6: candidates.1: no backend 'tensorflo': "),
    (HEAD + "candidates:\n  - tensorflow/fp16\n", "6: candidates.0: backend tensorflow has no precision 'fp16': "),
    (HEAD + "backends:\n  tensorflo:\n    options: {}\n",
     "6: backends.tensorflo: no backend 'tensorflo' to configure: there are "),
    (HEAD + "backends:\n  original:\n    python: /usr/bin/python3\n",
     "6: backends.original: no backend 'original' to configure: there are "),
    (HEAD + "backends:\n  tensorflow:\n    python: README.md\n",
     "7: backends.tensorflow.python: README.md is no Python interpreter: name an executable file such as "),
    (HEAD + "objective: latency@1\n", "5: objective: an objective is METRIC@BATCH with METRIC one of "),
    (HEAD + "targets:\n  - kind: triton\n    version: new\n", "6: targets.0: 'new' is not a server version such as "),
    (HEAD.replace("demo\n", "../demo\n", 1), "1: name: a name is letters, digits, '_', '.' and '-', and starts"),
    (HEAD + "gate:\n  outputs:\n    logits: {}\n",
     "7: gate.outputs.logits: give at least one of exact, close, match, top_k"),
])
def test_complaints_with_their_lines(complain: Complain, text: str, expected: str) -> None:
    said = complain(text)
    assert said.startswith(expected)


def test_a_complaint_about_the_whole_points_at_the_key_that_it_names(complain: Complain) -> None:
    assert complain(HEAD + "objective: throughput@16\n") == (
        "5: objective throughput@16 is not measured: add 16 to benchmark.batch_sizes")


@pytest.mark.parametrize("text", [
    HEAD + "gate:\n  precisions:\n    in8:\n      logits: {exact: true}\n",
    HEAD + "gate:\n  precisions:\n    fp64:\n      logits: {exact: true}\n",
])
def test_a_gate_for_a_precision_that_there_is_not_is_refused(complain: Complain, text: str) -> None:
    """A bound that is never applied is a bound that the user believes in."""
    assert "precision" in complain(text)


def test_a_key_that_stands_twice_is_refused(complain: Complain) -> None:
    """YAML forbids it; the parser would drop the first without a word."""
    assert complain(HEAD + "keep: 3\nkeep: 5\n").startswith("6: ")


def test_an_input_with_the_name_of_a_type_keeps_its_place(complain: Complain) -> None:
    assert complain(HEAD + "padding:\n  int: x\n").startswith("6: padding.int: Input should be a valid integer")


@pytest.mark.parametrize(("text", "expected"), [
    ("name: demo\nmodel: [a\nsamples: x\n", "3: not YAML: "),
    ("name: 'demo\n", "2: not YAML: found unexpected end of stream"),
    ("name: *nowhere\n", "1: not YAML: found undefined alias 'nowhere'"),
    ("a: 1\n\tb: 2\n", "2: not YAML: found character '\\t' that cannot start any token"),
    ("name: demo\n---\nname: other\n", "2: not YAML: but found another document"),
    ("name: !!python/object/apply:os.system ['exit']\n", "1: not YAML: could not determine a constructor"),
    ("name: d\x07emo\n", "not YAML: it cannot be read"),
    ("? {a: 1}\n: 2\n", "not YAML: found unhashable key"),
])
def test_what_is_not_yaml(complain: Complain, text: str, expected: str) -> None:
    assert expected in complain(text)


@pytest.mark.parametrize("value", ["2024-13-45", "!!int x", "!!float x", "!!bool x", "1" * 5000, "!!timestamp x",
                                   "!!binary é"])
def test_values_that_yaml_itself_cannot_read(complain: Complain, value: str) -> None:
    assert complain(HEAD.replace("demo", value, 1))


@pytest.mark.parametrize("key", ["1", "true", "null", "2024-01-01", "1.5"])
def test_keys_that_are_no_words(complain: Complain, key: str) -> None:
    assert complain(HEAD + f"{key}: x\n")


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "- name: demo\n", "demo\n", "42\n", "null\n", "~\n"])
def test_what_is_no_mapping(complain: Complain, text: str) -> None:
    assert complain(text) == "a configuration is a mapping with at least name, model and samples"


@pytest.mark.parametrize("data", [b"name: \xff\xfe\n", b"\x80\x04K\x01.", "name: demo".encode("utf-16")])
def test_what_is_no_text(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "demo.yaml"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        loader.load(file)
    assert str(caught.value) == f"{file} is not a text file"


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"
    with file.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(ConfigError) as caught:
        loader.load(file)
    assert str(caught.value) == f"{file} is larger than 1 MiB: that is no configuration"


def laughs(depth: int, form: str) -> str:
    """Each anchor holds nine of the one before, as list, mapping or merge."""
    lines = ["l0: &l0 {k: lol}" if form == "merge" else "l0: &l0 lol"]
    for level in range(1, depth):
        aliases = [f"*l{level - 1}"] * 9
        inner = {"list": f"[{', '.join(aliases)}]", "merge": f"{{<<: [{', '.join(aliases)}]}}",
                 "mapping": "{" + ", ".join(f"k{i}: {a}" for i, a in enumerate(aliases)) + "}"}[form]
        lines.append(f"l{level}: &l{level} {inner}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("text", [
    laughs(30, "list"),
    laughs(30, "mapping"),
    laughs(30, "mapping") + "gate: {precisions: *l29}\nsamples: {validation: *l29}\ntargets: *l29\n",
    laughs(12, "merge"),
    "a: " + "[" * 20000,
    "a: " + "{a: " * 20000,
    "a: &a [*a]\n" + HEAD,
    "gate: &a {outputs: *a}\n" + HEAD,
], ids=["list", "mapping", "in place", "merge", "deep list", "deep mapping", "cycle", "cycle in place"])
def test_nesting_and_aliases_end_in_a_line_within_seconds(tmp_path: Path, text: str) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(text)
    script = ("import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
              "from pathlib import Path\n"
              "from trt_pipeline.config import loader\n"
              "from trt_pipeline.errors import ConfigError\n"
              "try: loader.load(Path(sys.argv[1]))\n"
              "except ConfigError as error: print('refused', len(str(error)))\n")
    try:
        done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, timeout=5,
                              check=False)
    except subprocess.TimeoutExpired:
        pytest.fail("it hangs")
    assert done.stdout.startswith("refused "), done.stderr[-300:]
    assert int(done.stdout.split()[1]) < 1000


# --- Finding the file ---


def test_a_configuration_is_found_by_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/demo.yaml").write_text(HEAD)
    monkeypatch.chdir(tmp_path)
    assert loader.find("demo") == loader.find("configs/demo.yaml") == Path("configs/demo.yaml")


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    for name in ("koen", "demo"):
        (tmp_path / f"configs/{name}.yaml").write_text(HEAD)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        loader.find("deno")
    assert str(caught.value) == ("no configuration 'deno': configs has demo, koen; did you mean 'demo'?; "
                                 "'trt-pipeline init MODEL --name NAME' writes one")


def test_without_a_folder_of_configurations_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="configs has none"):
        loader.find("demo")
