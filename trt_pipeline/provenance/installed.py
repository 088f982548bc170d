"""What is installed in this interpreter; nothing but the standard library is imported.

Run as a module it prints the same as JSON: so one interpreter asks another (`sbom.installed_in`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from typing import TypedDict

# A licence's name, as some projects have it in that field; others have its text.
_LONGEST_NAME = 80
_CLASSIFIER = "License :: "
_FIELDS = ("Name", "License-Expression", "License")


class Distribution(TypedDict):
    """One distribution as its own metadata has it."""

    name: str
    """Normalized, as package indices know it."""
    version: str
    expression: str
    """Licence in SPDX's words, or by name; empty where the metadata has neither."""
    licences: list[str]
    """By the classifiers."""
    record: str
    """SHA-256 of the list of its files and their digests; empty without one."""


def distributions() -> list[Distribution]:
    """All that this interpreter finds, by name; of two of one name, the one that it imports."""
    found: dict[str, Distribution] = {}
    for one in importlib.metadata.distributions():
        said = {key: (one.metadata.get_all(key) or [""])[0].strip() for key in _FIELDS}
        name = re.sub(r"[-_.]+", "-", said["Name"]).lower()
        if not name or name in found:
            continue
        own = said["License"]
        short = own if own.upper() != "UNKNOWN" and len(own) <= _LONGEST_NAME and "\n" not in own else ""
        classified = [line.rpartition(" :: ")[2] for line in one.metadata.get_all("Classifier") or []
                      if line.startswith(_CLASSIFIER) and line.count(" :: ") > 1]
        record = one.read_text("RECORD")
        found[name] = {"name": name, "version": one.version, "licences": sorted(set(classified)),
                       "expression": said["License-Expression"] or short,
                       "record": hashlib.sha256(record.encode()).hexdigest() if record else ""}
    return [found[name] for name in sorted(found)]


if __name__ == "__main__":
    print(json.dumps(distributions()))
