"""A version appears whole or not at all, and nothing is left behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trt_pipeline.errors import OutputError
from trt_pipeline.publish import tf_serving, versions

Exchange = Callable[[Path, Path], None]


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def test_versions_are_numbers_and_folders_in_numeric_order(tmp_path: Path) -> None:
    for name in ("10", "9", "1", "latest", ".staging-1", "-3", "1.5"):
        (tmp_path / name).mkdir()
    (tmp_path / "11").write_text("a file")
    assert versions.existing(tmp_path) == [1, 9, 10]
    assert versions.existing(tmp_path / "nowhere") == []


def test_a_folder_named_in_digits_of_another_kind_is_no_version(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "²").mkdir()
    assert versions.existing(tmp_path) == [1]


def test_the_manifest_of_the_newest_version(tmp_path: Path) -> None:
    for number, text in ((2, '{"digest": "b"}'), (10, '{"digest": "c"}')):
        folder(tmp_path / str(number), **{versions.MANIFEST: text})
    assert versions.latest_manifest(tmp_path) == {"digest": "c"}


@pytest.mark.parametrize("text", [None, "", "{", "\x00"])
def test_a_missing_or_damaged_manifest_is_none(tmp_path: Path, text: str | None) -> None:
    folder(tmp_path / "1", **({} if text is None else {versions.MANIFEST: text}))
    assert versions.latest_manifest(tmp_path) is None
    assert versions.latest_manifest(tmp_path / "nowhere") is None


def test_a_version_is_placed_with_all_it_holds(tmp_path: Path) -> None:
    with versions.staging(tmp_path) as scratch:
        versions.place(folder(scratch / "version", a="text"), tmp_path / "demo" / "3")
        assert not (scratch / "version").exists()
    assert (tmp_path / "demo/3/a").read_text() == "text"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo"]


def test_a_version_that_another_publisher_has_just_placed_is_not_overwritten(tmp_path: Path) -> None:
    folder(tmp_path / "demo" / "3", a="theirs")
    with pytest.raises(OutputError), versions.staging(tmp_path) as scratch:
        versions.place(folder(scratch / "version", a="mine"), tmp_path / "demo" / "3")
    assert (tmp_path / "demo/3/a").read_text() == "theirs"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo"]


def test_servers_may_read_what_is_staged(tmp_path: Path) -> None:
    with versions.staging(tmp_path) as scratch:
        assert scratch.stat().st_mode & 0o777 == 0o755


def test_staging_is_out_of_a_server_s_sight_and_goes_even_on_an_interrupt(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), versions.staging(tmp_path) as scratch:
        assert scratch.name.startswith(f".staging-{os.getpid()}-")
        (scratch / "half").write_text("written")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_publisher_left_is_removed_and_a_living_one_s_kept(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    folder(tmp_path / f".staging-{ended.pid}-x", a="half")
    folder(tmp_path / ".staging-1-y", a="somebody's")  # process 1 lives
    folder(tmp_path / ".staging-strange", a="no number")
    with versions.staging(tmp_path):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [".staging-1-y"]


@pytest.fixture(params=["in one step", "by renames"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Exchange:
    if request.param == "by renames":
        monkeypatch.setattr(versions.sys, "platform", "darwin")
    return versions.exchange


def test_an_exchange_swaps_two_folders(tmp_path: Path, exchange: Exchange) -> None:
    one, other = folder(tmp_path / "one", a="1"), folder(tmp_path / "other", b="2")
    exchange(one, other)
    assert [p.name for p in one.iterdir()] == ["b"]
    assert [p.name for p in other.iterdir()] == ["a"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "other"]


def test_an_exchange_with_nothing_is_an_error(tmp_path: Path, exchange: Exchange) -> None:
    with pytest.raises(OSError):
        exchange(folder(tmp_path / "one"), tmp_path / "nowhere")
    assert (tmp_path / "one").is_dir()


def test_no_moment_lacks_the_folder_during_an_exchange(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "one", a="1"), folder(tmp_path / "other", a="2")
    missing, stop = [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            try:
                (other / "a").read_text()
            except OSError as error:
                missing.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(200):
        versions.exchange(one, other)
    stop.set()
    watcher.join()
    assert missing == []


@pytest.mark.parametrize(("keep", "left"), [(1, [4]), (2, [3, 4]), (9, [1, 2, 3, 4])])
def test_pruning_keeps_the_newest(tmp_path: Path, keep: int, left: list[int]) -> None:
    for number in range(1, 5):
        folder(tmp_path / "demo" / str(number))
    scratch = folder(tmp_path / "scratch")
    gone = versions.prune(tmp_path / "demo", keep, scratch)
    assert versions.existing(tmp_path / "demo") == left
    assert gone == [n for n in range(1, 5) if n not in left]


def test_a_copy_follows_links_and_shares_nothing(tmp_path: Path) -> None:
    source = folder(tmp_path / "source", weights="w")
    (source / "link").symlink_to(source / "weights")
    (tmp_path / "through").symlink_to(source, target_is_directory=True)
    versions.copy(tmp_path / "through", tmp_path / "copy")
    versions.copy(source / "link", tmp_path / "deep/er/file")
    (source / "weights").write_text("changed")
    assert (tmp_path / "copy/link").read_text() == "w"
    assert not (tmp_path / "copy/link").is_symlink()
    assert (tmp_path / "deep/er/file").read_text() == "w"


# --- The disk ---


def published(serving: Path, source: Path, digest: str) -> tuple[int, bool]:
    return tf_serving.publish(source, serving, "demo", {"digest": digest}, keep=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = folder(tmp_path / "source", **{"saved_model.pb": "graph"})
    folder(made / "variables", **{f"shard{number}": "x" * 20_000 for number in range(6)})
    return made


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fills_in_the_middle_of_a_copy_leaves_no_trace(
        tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    serving = tmp_path / "serving"
    published(serving, source, "one")
    copied: list[str] = []
    real = shutil.copyfile

    def copyfile(given: str, target: str, **options: bool) -> str:
        if len(copied) == 3:
            raise OSError(number, os.strerror(number), target)
        copied.append(target)
        return str(real(given, target, **options))

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with pytest.raises(OutputError) as caught:
        published(serving, source, "two")
    assert len(copied) == 3
    assert "\n" not in str(caught.value)
    if number == errno.ENOSPC:
        assert str(caught.value) == (f"disk full while publishing to {serving}: free some space and run again; "
                                     "nothing half-written is left")
    assert sorted(p.name for p in serving.iterdir()) == ["demo"]
    assert versions.existing(serving / "demo") == [1]
    assert versions.latest_manifest(serving / "demo") == {"digest": "one"}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """64 KiB, whose end is real."""
    mounted = tmp_path / "tiny"
    mounted.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)], capture_output=True,
                          text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted here: {done.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def test_a_full_disk_leaves_no_trace(tiny_disk: Path, tmp_path: Path, source: Path) -> None:
    small = folder(tmp_path / "small", **{"saved_model.pb": "graph"})
    assert published(tiny_disk, small, "one") == (1, True)
    with pytest.raises(OutputError) as caught:
        published(tiny_disk, source, "two")
    assert str(caught.value) == (f"disk full while publishing to {tiny_disk}: free some space and run again; "
                                 "nothing half-written is left")
    assert sorted(p.name for p in tiny_disk.iterdir()) == ["demo"]
    assert versions.existing(tiny_disk / "demo") == [1]
    assert published(tiny_disk, small, "two") == (2, True)


def test_a_serving_folder_that_is_a_file_is_one_line(tmp_path: Path, source: Path) -> None:
    (tmp_path / "serving").write_text("in the way")
    with pytest.raises(OutputError) as caught:
        published(tmp_path / "serving", source, "one")
    assert str(caught.value) == (f"cannot publish to {tmp_path}/serving: File exists; choose another folder or mend "
                                 "its permissions")


def test_a_manifest_is_readable_json(tmp_path: Path, source: Path) -> None:
    published(tmp_path / "serving", source, "one")
    assert json.loads((tmp_path / "serving/demo/1" / versions.MANIFEST).read_text()) == {"digest": "one"}
