"""The bill of materials: valid CycloneDX, complete, and the same for the same environments."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from trt_pipeline import interpreter
from trt_pipeline.provenance import sbom


@pytest.fixture(scope="module")
def written(bare_python: Path) -> bytes:
    return sbom.text({"tf-trt": interpreter.examine(bare_python)})


@pytest.fixture(scope="module")
def bom(written: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(written)
    return document


def test_it_is_valid(written: bytes) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written.decode()) is None


def test_it_has_every_distribution_of_this_environment(bom: dict[str, Any]) -> None:
    found = {(one["name"], one["version"]) for one in bom["components"] if one["type"] == "library"}
    folders = (file.name.removesuffix(".dist-info").split("-") for file in Path(sysconfig.get_path("purelib")).glob(
        "*.dist-info"))
    assert found == {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in folders}
    tensorflow = next(one for one in bom["components"] if one["name"] == "tensorflow")
    assert tensorflow["purl"] == f"pkg:pypi/tensorflow@{importlib.metadata.version('tensorflow')}"
    assert [one["license"]["name"] if "name" in one["license"] else one["license"]["id"]
            for one in tensorflow["licenses"]] == ["Apache 2.0"]


def test_most_components_say_their_licence(bom: dict[str, Any]) -> None:
    libraries = [one for one in bom["components"] if one["type"] == "library"]
    assert sum("licenses" in one for one in libraries) > 0.8 * len(libraries)


def test_every_interpreter_is_there_with_what_it_has(bom: dict[str, Any]) -> None:
    depends = {one["ref"]: one.get("dependsOn", []) for one in bom["dependencies"]}
    assert sorted(depends["trt-pipeline"]) == ["run/python", "tf-trt/python"]
    assert depends["tf-trt/python"] == []
    assert len(depends["run/python"]) == sum(one["type"] == "library" for one in bom["components"])


def test_it_is_the_same_whoever_asks_and_whenever(written: bytes, bare_python: Path) -> None:
    """Another process, whose sets have another order."""
    code = ("import sys; from pathlib import Path; from trt_pipeline import interpreter; from trt_pipeline.provenance "
            "import sbom; sys.stdout.buffer.write(sbom.text({'tf-trt': interpreter.examine(Path(sys.argv[1]))}))")
    again = subprocess.run([sys.executable, "-c", code, str(bare_python)], capture_output=True, check=True)
    assert again.stdout == written
