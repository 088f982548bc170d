"""`serving/publications.json`: what a publication has to know of the models that others published before it.

Servers pass it over. A model without an entry, of an earlier version of the pipeline or put there by hand, is served
by the defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from trt_pipeline.config.schema import Config, VersionSettings
from trt_pipeline.frozen import Frozen
from trt_pipeline.publish.version_policy import VersionPolicy

FILE = "publications.json"


class Record(Frozen):
    """One model as its own configuration wants it served."""

    targets: dict[str, tuple[str, ...]] = {}
    """Kind of server -> its versions."""
    versions: VersionSettings = VersionSettings()
    policy: VersionPolicy | None = None
    """What TensorFlow Serving was told of its versions last."""
    storage: str = Config.model_fields["storage"].default

    def published(self, config: Config, kinds: set[str]) -> Record:
        """This record after a publication of ``config`` for these kinds of server."""
        targets = {kind: tuple(dict.fromkeys(t.version for t in config.targets if t.kind == kind)) for kind in kinds}
        return self.model_copy(update={"targets": self.targets | targets, "versions": config.versions,
                                       "storage": config.storage})


def read(serving: Path) -> dict[str, Record]:
    """The records by model; entries that cannot be read are left out."""
    try:
        document = json.loads((serving / FILE).read_text())
    except (OSError, ValueError):
        return {}
    found = {}
    for name, entry in document.items() if isinstance(document, dict) else ():
        try:
            found[name] = Record.model_validate(entry)
        except ValidationError:
            continue
    return found


def text(records: Mapping[str, Record]) -> str:
    """The file."""
    return json.dumps({name: record.model_dump(mode="json") for name, record in sorted(records.items())},
                      indent=2) + "\n"
