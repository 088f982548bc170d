"""`sbom.cdx.json`: the software that a run works with, as a CycloneDX bill of materials.

It is the same, byte for byte, for the same environments: it has no time, and its serial number follows from the rest.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trt_pipeline import digest, interpreter
from trt_pipeline.errors import ConfigError
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.provenance.installed import Distribution

if TYPE_CHECKING:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

FILE = "sbom.cdx.json"
_OWN = "run"
_RECORD, _ENVIRONMENT = "trt-pipeline:record-sha256", "trt-pipeline:environment"
_ANSWER_S = 120


def text(interpreters: Mapping[str, Interpreter]) -> bytes:
    """The bill of materials, CycloneDX 1.6 in JSON: this interpreter's environment, and each of ``interpreters``.

    Every environment is a component that depends on what is installed in it.

    Args:
        interpreters: backend -> what its workers run under, where that is not this interpreter.

    Raises:
        ConfigError: one of them does not answer.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    from trt_pipeline import __version__

    bom = Bom(serial_number=uuid.UUID(int=0))
    root = Component(name="trt-pipeline", version=__version__, type=ComponentType.APPLICATION, bom_ref="trt-pipeline")
    bom.metadata.component = root
    # A process of its own for this one too: what was imported here may have lengthened sys.path.
    environments = [(_OWN, platform.python_version(), Path(sys.executable))]
    environments += [(name, one.environment.get("python", ""), one.python)
                     for name, one in sorted(interpreters.items())]
    platforms = []
    for name, version, python in environments:
        parts = _components(name, installed_in(python))
        itself = Component(name="python", version=version, type=ComponentType.PLATFORM, bom_ref=f"{name}/python",
                           properties=[_property(_ENVIRONMENT, name)])
        bom.components.update((itself, *parts))
        bom.register_dependency(itself, parts)
        platforms.append(itself)
    bom.register_dependency(root, platforms)
    outputter = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    document = json.loads(outputter.output_as_string())
    del document["metadata"]["timestamp"], document["serialNumber"]
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest.of_value(document))}"
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def installed_in(python: Path) -> Sequence[Distribution]:
    """What is installed in an interpreter.

    Raises:
        ConfigError: it does not answer.
    """
    other = None if python == Path(sys.executable) else python
    try:
        answer = subprocess.run(interpreter.command(other, "trt_pipeline.provenance.installed"),
                                env=interpreter.variables(other), stdin=subprocess.DEVNULL, capture_output=True,
                                text=True, timeout=_ANSWER_S, check=True)
        found: list[Distribution] = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(f"{python} does not say what is installed in it: {error}") from None
    return found


def _components(environment: str, found: Sequence[Distribution]) -> list[Component]:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return [Component(
        name=one["name"], version=one["version"], type=ComponentType.LIBRARY,
        bom_ref=f"{environment}/{one['name']}@{one['version']}",
        purl=PackageURL("pypi", None, one["name"], one["version"]), licenses=_licences(one),
        properties=[_property(key, value) for key, value in ((_ENVIRONMENT, environment), (_RECORD, one["record"]))
                    if value],
    ) for one in found]


def _licences(one: Distribution) -> list[License]:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.license import LicenseAcknowledgement

    factory, declared = LicenseFactory(), LicenseAcknowledgement.DECLARED
    if one["expression"]:
        return [factory.make_from_string(one["expression"], license_acknowledgement=declared)]
    return [factory.make_with_name(name, acknowledgement=declared) for name in one["licences"]]


def _property(name: str, value: str) -> Property:
    from cyclonedx.model import Property

    return Property(name=name, value=value)
