"""The statement is what in-toto and SLSA publish, and names what there really is."""

from __future__ import annotations

import copy
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.provenance import publications
from trt_pipeline import digest
from trt_pipeline.calibration import ranges as ranges_file
from trt_pipeline.environment import environment
from trt_pipeline.errors import ConfigError
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.provenance import published, statement
from trt_pipeline.provenance.record import Provenance

RUN = "artifacts/demo/20260101-000000"
SCHEMA = json.loads(Path(__file__).with_name("statement.schema.json").read_text())


def valid(document: Any) -> bool:
    return not list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(document))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, published for both servers by one run."""
    root = tmp_path_factory.mktemp("made")
    made = publications.provenance(root)
    (root / RUN / "ranges.json").write_text('{"of": "demo"}')
    publications.publish(root, made.evidence((publications.faster(root / "work"),)))
    return root


def read(version: Path) -> dict[str, Any]:
    found = published.read(version)
    assert found
    document: dict[str, Any] = json.loads((version / found.file).read_text())
    return document


def of(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


@pytest.mark.parametrize("version", ["demo/1", "triton/demo/1"])
def test_it_is_valid_and_so_is_none_that_lacks_anything(root: Path, version: str) -> None:
    document = read(root / "serving" / version)
    assert valid(document)
    for path in (("_type",), ("subject",), ("predicateType",), ("predicate", "buildDefinition", "buildType"),
                 ("predicate", "buildDefinition", "externalParameters"), ("predicate", "runDetails", "builder", "id"),
                 ("subject", 0, "digest")):
        broken = copy.deepcopy(document)
        holder: Any = broken
        for key in path[:-1]:
            holder = holder[key]
        del holder[path[-1]]
        assert not valid(broken), path


@pytest.mark.parametrize(("version", "model"), [
    ("demo/1", {"saved_model.pb", "assets/labels.txt", "variables/variables.index",
                "variables/variables.data-00000-of-00001"}),
    ("triton/demo/1", {"model.onnx", "model.onnx.data", "config.pbtxt", "warmup/0-image", "warmup/1-image"})])
def test_its_subjects_are_the_model_s_files_with_their_digests(root: Path, version: str, model: set[str]) -> None:
    """What may change while the version stays is none: the statement, and a signature on it, would no longer hold."""
    folder = root / "serving" / version
    subjects = {one["name"]: one["digest"]["sha256"] for one in read(folder)["subject"]}
    assert set(subjects) == model
    assert subjects == {name: digest.of_file(folder / name) for name in model}


def test_a_version_that_stays_keeps_its_statement(tmp_path: Path) -> None:
    evidence = publications.provenance(tmp_path).evidence(())
    publications.publish(tmp_path, evidence)
    places = ["demo/1/assets.extra/trt_pipeline/provenance.json", "triton/demo/1/provenance.json"]
    before = [(tmp_path / "serving" / place).stat() for place in places]
    assert [made.new for made in publications.publish(tmp_path, evidence)] == [False, False]
    assert [made.new for made in publications.publish(tmp_path, evidence, targets=publications.TARGETS[:1],
                                                      max_batch_size=2)] == [False]
    assert [(tmp_path / "serving" / place).stat() for place in places] == before


def test_a_publication_that_is_published_again_says_where_it_comes_from_itself(root: Path, tmp_path: Path) -> None:
    version = root / "serving/demo/1"
    (tmp_path / "work").mkdir()
    publications.faster(tmp_path / "work")
    for name, file in publications.files(version).items():
        (tmp_path / "work/model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "work/model" / name).write_bytes(file.read_bytes())
    (tmp_path / "work/model/SHA256SUMS.next").write_text("of a writer that was killed")
    publications.publish(tmp_path)
    assert published.read(tmp_path / "serving/demo/1") is None
    assert "SHA256SUMS.next" not in publications.files(tmp_path / "serving/demo/1")


def test_it_says_what_went_in(root: Path) -> None:
    built = read(root / "serving/demo/1")["predicate"]["buildDefinition"]
    model = of(built["resolvedDependencies"], "model")
    assert model["digest"] == {statement.FOLDER_DIGEST: digest.of_folder(publications.MODEL)}
    assert model["uri"] == publications.MODEL.as_uri()
    assert of(built["resolvedDependencies"], "samples/validation")["digest"] == {statement.VALUE_DIGEST: "of samples"}
    assert built["externalParameters"]["config"] == publications.config(root).model_dump(mode="json")
    assert built["externalParameters"]["candidates"] == ["original", "tensorflow/fp32"]
    assert built["internalParameters"]["environment"] == environment()


def test_it_says_what_else_came_of_it(root: Path) -> None:
    made = publications.faster(root / "work")
    details = read(root / "serving/demo/1")["predicate"]["runDetails"]
    assert of(details["byproducts"], "ranges.json")["digest"] == {"sha256": digest.of_file(root / RUN / "ranges.json")}
    assert of(details["byproducts"], "sbom.cdx.json")["digest"] == {
        "sha256": digest.of_file(root / "serving/demo/1/assets.extra/trt_pipeline/sbom.cdx.json")}
    judged = of(details["byproducts"], "candidates/tensorflow/fp32")
    assert judged["digest"] == {statement.VALUE_DIGEST: digest.of_value(made.model_dump(mode="json"))}
    assert judged["annotations"]["status"] == "ok"
    assert judged["annotations"]["latency_ms"] == {"s0@1": {"p50": 1, "p99": 1, "original_p50": 1}}
    assert details["builder"]["version"]["sources"] == digest.of_this_package()
    assert details["metadata"]["invocationId"] == "demo/20260101-000000"
    assert details["metadata"]["startedOn"] <= details["metadata"]["finishedOn"]


def test_files_that_the_configuration_names_went_in_too(tmp_path: Path) -> None:
    for name in ("ranges.json", "islands.yaml"):
        (tmp_path / name).write_text(name)
    made = publications.provenance(tmp_path, calibration={"ranges": tmp_path / ranges_file.FILE},
                                   islands={"pinned": {"tensorflow/int8": tmp_path / "islands.yaml"}})
    document = json.loads(made.evidence(())({"model": "0" * 64})["provenance.json"])
    inputs = document["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert of(inputs, "ranges")["digest"] == {"sha256": digest.of_file(tmp_path / "ranges.json")}
    assert of(inputs, "islands/tensorflow/int8")["digest"] == {"sha256": digest.of_file(tmp_path / "islands.yaml")}
    assert [one["name"] for one in document["predicate"]["runDetails"]["byproducts"]] == ["sbom.cdx.json"]


def test_as_a_run_begins_there_is_nothing_to_sign(tmp_path: Path) -> None:
    publications.provenance(tmp_path).begin()
    assert sorted(file.name for file in (tmp_path / RUN).iterdir()) == ["run.json", "sbom.cdx.json"]
    begun = json.loads((tmp_path / RUN / "run.json").read_text())
    assert not valid(begun)
    assert "finishedOn" not in begun["predicate"]["runDetails"]["metadata"]
    assert valid({**begun, "subject": [statement.descriptor("report.json", "0" * 64)]})


def test_what_json_has_no_word_for_is_a_word(tmp_path: Path) -> None:
    written = statement.text({"bound": math.inf, "low": -math.inf, "none": math.nan, "path": tmp_path, "word": "영어"})
    assert json.loads(written, parse_constant=pytest.fail) == {
        "bound": "Infinity", "low": "-Infinity", "none": "NaN", "path": str(tmp_path), "word": "영어"}


def test_the_digest_of_a_folder_can_be_had_without_this_package() -> None:
    """By the command that docs/provenance.md gives."""
    page = (publications.ROOT / "docs/provenance.md").read_text()
    command = next(line.strip() for line in page.splitlines() if line.strip().startswith("find -L"))
    done = subprocess.run(["bash", "-c", command], cwd=publications.MODEL, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == digest.of_folder(publications.MODEL)


def test_an_interpreter_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    silent = Interpreter(python=Path("/bin/false"), environment={})
    with pytest.raises(ConfigError, match="does not say what is installed") as caught:
        Provenance(publications.config(tmp_path), tmp_path, [], "", {}, {"tf-trt": silent})
    assert "\n" not in str(caught.value)
