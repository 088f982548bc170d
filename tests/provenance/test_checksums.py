"""SHA256SUMS: what sha256sum makes of it, what of it may be changed unnoticed, and what a killed writer leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.provenance import publications
from trt_pipeline.provenance.verify import verify
from trt_pipeline.publish import checksums, versions

NAMES = ("plain", "deep/er/file", "of two  words", "new\nline", "back\\slash\\n", "car\rriage", "한국어", "#comment",
         "\udcff no UTF-8")


def test_sha256sum_agrees_whatever_files_are_called(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(os.fsencode(name))
    sums = checksums.of_folder(tmp_path)
    (tmp_path / checksums.FILE).write_bytes(checksums.text(sums))
    assert checksums.read(tmp_path) == sums
    assert set(sums) == set(NAMES)
    check = ["sha256sum", "--check", "--strict", "--quiet", checksums.FILE]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (tmp_path / "plain").write_text("other")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_any_other_byte_in_it_is_noticed() -> None:
    content = checksums.text({"a": "0" * 64, "b\n": "1" * 64})
    assert checksums.parse(content) == {"a": "0" * 64, "b\n": "1" * 64}
    for position in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            with pytest.raises(ValueError):
                checksums.parse(bytes(changed))
    for length in range(len(content)):
        with pytest.raises(ValueError):
            checksums.parse(content[:length])
    with pytest.raises(ValueError):
        checksums.parse(content + b"\n")


def test_links_and_checksums_themselves_are_not_summed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    for name in (checksums.FILE, checksums.NEXT):
        (tmp_path / name).write_text("")
    assert list(checksums.of_folder(tmp_path)) == ["file"]


class Killed(BaseException):
    """As a signal ends a process: nothing catches it."""


def killed_after(patch: pytest.MonkeyPatch, last: int) -> None:
    """Let this process change ``last`` more names on the disk."""
    left = last

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object, **options: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            real(*arguments, **options)

        return call

    for name in ("replace", "rename", "unlink"):
        patch.setattr(os, name, counted(getattr(os, name)))


def cut_off(patch: pytest.MonkeyPatch, last: int, write: Callable[[], object]) -> bool:
    """Whether ``write`` was."""
    with patch.context() as within:
        within.setattr(os, "fsync", lambda descriptor: None)
        killed_after(within, last)
        try:
            write()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("change", [{"max_batch_size": 2}, {"max_batch_size": 16}, {"padding": {"image": 0}}],
                         ids=["smaller batches", "larger ones", "only the manifest"])
def test_wherever_a_publication_is_cut_off_nothing_passes_for_damaged(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]) -> None:
    """A version that stays gets other batches, requests and manifest, and the serving folder other files."""
    tensorflow = {"targets": publications.TARGETS[:1]}
    publications.publish(tmp_path / "once", **tensorflow)
    noted = 0
    for last in range(200):
        root = tmp_path / str(last)
        shutil.copytree(tmp_path / "once", root)
        killed = cut_off(monkeypatch, last, lambda root=root: publications.publish(root, **tensorflow, **change))
        found = verify(root / "serving")
        assert found.problems == ()
        noted += bool(found.notes)
        cut_off(monkeypatch, 1000, lambda root=root: publications.publish(root, **tensorflow, **change))
        found = verify(root / "serving")
        assert (found.ok, found.notes) == (True, ())
        if not killed:
            break
    assert last >= 3
    assert noted


def test_wherever_files_are_changed_added_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for last in range(20):
        version = tmp_path / str(last) / "demo/1"
        version.mkdir(parents=True)
        before = {version / name: "old" for name in ("changed", "gone", "same")}
        after = {version / "changed": "new", version / "gone": None, version / "added": "new"}
        versions.write(tmp_path / str(last), before, version)
        killed = cut_off(monkeypatch, last, lambda: versions.write(tmp_path / str(last), after, version))  # noqa: B023
        assert verify(version).problems == ()
        versions.write(tmp_path / str(last), after, version)
        assert set(checksums.read(version) or ()) == {"changed", "same", "added"}
        assert (verify(version).ok, verify(version).notes) == (True, ())
        if not killed:
            break
    assert last > 4


def test_a_file_that_a_killed_writer_left_is_judged_as_it_is(tmp_path: Path) -> None:
    version = tmp_path / "version"
    version.mkdir()
    (version / "a").write_text("old")
    versions.write(tmp_path, {version / "a": "old", version / "b": "old"}, version)
    before = checksums.read(version) or {}
    (tmp_path / "next").mkdir()
    versions.write(tmp_path / "next", {tmp_path / "next/a": "new", tmp_path / "next/b": "new"}, tmp_path / "next")
    after = checksums.read(tmp_path / "next") or {}
    (version / checksums.NEXT).write_bytes(checksums.text(after))
    (version / "b").write_text("new")
    assert checksums.settled(version) == {"a": before["a"], "b": after["b"]}
    assert [checksums.holds(version, name) for name in "ab"] == [True, True]
    (version / "a").write_text("neither")
    assert checksums.settled(version)["a"] == before["a"]
    assert not checksums.holds(version, "a")


def test_what_is_written_is_summed_and_what_goes_is_not(tmp_path: Path) -> None:
    versions.write(tmp_path, {tmp_path / "a": "1", tmp_path / "b": "2"}, tmp_path)
    assert set(checksums.read(tmp_path) or ()) == {"a", "b"}
    versions.write(tmp_path, {tmp_path / "b": None}, tmp_path)
    assert set(checksums.read(tmp_path) or ()) == {"a"}
    versions.write(tmp_path, {tmp_path / "a": None}, tmp_path)
    assert list(tmp_path.iterdir()) == []
