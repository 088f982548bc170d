"""What has to hold of run.json after any run of the demo that published, and of what it published."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import ROOT
from tests.provenance.test_statement import of, valid
from trt_pipeline import digest
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import differences
from trt_pipeline.provenance import published, statement
from trt_pipeline.provenance.verify import verify
from trt_pipeline.run_result import RunResult


def check(done: RunResult) -> None:
    """Valid, about files that there are with their digests, and of one mind with report.json."""
    document = json.loads((Path(done.folder) / "run.json").read_text())
    assert valid(document)
    _check_subjects(done, {one["name"]: one["digest"]["sha256"] for one in document["subject"]})
    built, details = document["predicate"]["buildDefinition"], document["predicate"]["runDetails"]
    inputs = built["resolvedDependencies"]
    assert of(inputs, "model")["digest"] == {statement.FOLDER_DIGEST: done.model_digest}
    assert done.model_digest == digest.of_folder(ROOT / "models/demo/1")
    assert {one["name"]: one["digest"][statement.VALUE_DIGEST] for one in inputs if one["name"] != "model"} == {
        f"samples/{kind}": content for kind, content in done.samples_digests.items()}
    assert built["externalParameters"]["config"] == done.config
    assert built["internalParameters"]["environment"] == done.environment
    for candidate in done.candidates:
        told = of(details["byproducts"], f"candidates/{candidate.name}")["annotations"]
        assert told["status"] == candidate.status
        assert set(told["seconds"]) == {cost.stage for cost in candidate.stages}
    assert of(details["byproducts"], "sbom.cdx.json")["digest"] == {
        "sha256": digest.of_file(Path(done.folder) / "sbom.cdx.json")}
    _check_publications(done)


def _check_subjects(done: RunResult, subjects: dict[str, str]) -> None:
    folder, serving = Path(done.folder), Path(done.config["serving"])
    for name, content in subjects.items():
        root = serving.parent if name.startswith(f"{serving.name}/") else folder
        assert digest.of_file(root / name) == content, name
    made = {f"candidates/{path.relative_to(folder / 'candidates').as_posix()}"
            for one in done.candidates if one.artifact and one.name != "original"
            for path in (folder / "candidates" / one.name.replace("/", "-") / "model").rglob("*") if path.is_file()}
    assert made
    assert {"report.json", *made, *(["ranges.json"] if (folder / "ranges.json").exists() else [])} <= set(subjects)


def _check_publications(done: RunResult) -> None:
    new = [Path(one.path) for one in done.publications if one.new and one.path]
    assert new
    for path in new:
        found = verify(path)
        assert found.ok, found.lines()
        said = published.read(path)
        assert said
        assert said.run == f"{done.name}/{done.run_id}"
        if (path / "saved_model.pb").is_file():
            original = saved_model.read_contract(ROOT / "models/demo/1")
            assert differences(original, saved_model.read_contract(path)) == []
