"""The folder of one run: what it found, for people and programs that look later."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from trt_pipeline.candidate import MODEL_FOLDER
from trt_pipeline.files import link_tree
from trt_pipeline.islands import file as islands
from trt_pipeline.results import CandidateResult


class RunFolder:
    """`run.json`, `report.json`, and a folder for each candidate with result, log and files."""

    def __init__(self, root: Path) -> None:
        """Make a folder below ``root``, named after the time."""
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        self.path = root / stamp
        try:
            self.path.mkdir()
        except FileExistsError:
            self.path = Path(tempfile.mkdtemp(prefix=f"{stamp}-", dir=root))
        self._logs: dict[str, list[Path]] = {}

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Write ``document`` as the JSON file ``name``."""
        (self.path / name).write_text(json.dumps(document, indent=2, default=str) + "\n")

    def add_log(self, candidate: str, log: Path) -> None:
        """Make ``log`` part of the candidate's log.txt."""
        self._logs.setdefault(candidate, []).append(log)

    def save_failed_log(self, candidate: str, stage: str, log: Path) -> None:
        """Copy the log of a stage that failed, and is not kept elsewhere."""
        if log.is_file():
            kept = self.candidate(candidate) / f"{stage}-failed.txt"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(log, kept)
            self.add_log(candidate, kept)

    def candidate(self, name: str) -> Path:
        """The folder of candidate ``name``."""
        return self.path / "candidates" / folder_name(name)

    def write_candidate(self, result: CandidateResult, files: Path | None) -> None:
        """Write result.json and log.txt, and show the conversion's ``files`` as ``model/``."""
        folder = self.candidate(result.name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(result.model_dump_json(indent=2))
        if result.islands:
            islands.write(folder / "islands.yaml", result.islands.islands)
        with (folder / "log.txt").open("w") as log:
            for part in self._logs.get(result.name, []):
                log.write(part.read_text(errors="replace"))
        if files:
            link_tree(files, folder / MODEL_FOLDER)


def finalize_command(run: str, candidate: str, output: str) -> str:
    """The command that finalizes ``candidate`` of the run whose folder is ``run``, for a shell."""
    return f"trt-pipeline finalize {shlex.quote(str(Path(run, 'candidates', folder_name(candidate))))} -o {output}"


def folder_name(candidate: str) -> str:
    """``tensorflow-fp32`` for ``tensorflow/fp32``, ``tensorflow-int8-mine`` for ``tensorflow/int8:mine``."""
    return candidate.replace("/", "-").replace(":", "-")
