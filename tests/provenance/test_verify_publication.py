"""`verify` finds whatever became of a publication: a byte, a file more or less, a link; and says where."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.provenance import publications
from trt_pipeline.errors import InputError
from trt_pipeline.provenance import verify as verification
from trt_pipeline.provenance.verify import verify
from trt_pipeline.publish import checksums, tf_serving, triton, versions

SAVED, TRITON = "demo/1", "triton/demo/1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A serving folder as it was published."""
    root = tmp_path_factory.mktemp("made")
    publications.publish(root, publications.provenance(root).evidence((publications.faster(root / "work"),)))
    return root / "serving"


@pytest.fixture
def serving(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "serving"))


def test_what_is_as_it_was_published_is_whole(serving: Path) -> None:
    found = verify(serving)
    assert (found.ok, found.problems, found.unchecked, found.notes) == (True, (), (), ())
    assert found.files == len(publications.files(serving))
    one, other = found.lines()
    pattern = (r": tensorflow/fp32, (\d+) files, made by run demo/20260101-000000, \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, of "
               r"the model [0-9a-f]{12}")
    assert re.fullmatch(re.escape(str(serving / SAVED)) + pattern, one)
    assert re.fullmatch(re.escape(str(serving / TRITON)) + pattern, other)


def test_it_has_a_statement_a_bill_of_materials_and_checksums(serving: Path) -> None:
    kinds = {"saved_model.pb", "assets.extra/tf_serving_warmup_requests", "batching_params.pbtxt", "trt_pipeline.json",
             "assets.extra/trt_pipeline/provenance.json", "assets.extra/trt_pipeline/sbom.cdx.json", "SHA256SUMS"}
    assert kinds < set(publications.files(serving / SAVED))
    kinds = {"model.onnx", "model.onnx.data", "config.pbtxt", "warmup/0-image", "warmup/1-image", "trt_pipeline.json",
             "provenance.json", "sbom.cdx.json", "SHA256SUMS"}
    assert kinds == set(publications.files(serving / TRITON))


def test_a_savedmodel_for_triton_has_them_in_it(tmp_path: Path) -> None:
    evidence = publications.provenance(tmp_path).evidence(())
    publications.publish(tmp_path, evidence, targets=[{"kind": "triton", "version": "24.10"}])
    version = tmp_path / "serving" / TRITON
    assert (version / "model.savedmodel/assets.extra/trt_pipeline/provenance.json").is_file()
    found, = verify(version).versions
    assert found.said
    assert "model.savedmodel/saved_model.pb" in found.said.subjects


@pytest.mark.parametrize("path", ["", SAVED, "demo", "triton", TRITON, "triton/demo"])
def test_a_flipped_bit_is_found_in_every_file(serving: Path, path: str) -> None:
    """At both ends and somewhere between; by the name of the file and of no other."""
    dice = random.Random(7)
    files = publications.files(serving / path)
    assert len(files) >= 8
    for file in files.values():
        content = file.read_bytes()
        assert content, file
        for position in {0, len(content) - 1, dice.randrange(len(content))}:
            changed = bytearray(content)
            changed[position] ^= 1 << dice.randrange(8)
            file.write_bytes(changed)
            found = verify(serving / path)
            assert not found.ok
            assert [line.startswith(f"{file} ") for line in found.problems] == [True], found.problems
        file.write_bytes(content)
    assert verify(serving / path).ok


def test_a_flipped_bit_of_triton_s_own_configuration_is_found_from_its_version(serving: Path) -> None:
    (serving / "triton/demo/config.pbtxt").write_bytes(b"other")
    assert verify(serving / TRITON).problems == (f"{serving}/triton/demo/config.pbtxt was changed",)


@pytest.mark.parametrize("path", ["", SAVED, "demo", TRITON, "triton/demo"])
def test_a_file_more_or_less_or_of_another_name_is_found(serving: Path, path: str) -> None:
    folder = serving / path
    for name, file in publications.files(folder).items():
        if file == serving / checksums.FILE:
            continue  # nobody knows of it: the next test
        aside = serving.parent / "aside"
        file.rename(aside)
        assert f"{file} is missing" in verify(folder).problems, name
        aside.rename(file.with_name(f"{file.name}~"))
        problems = verify(folder).problems
        assert f"{file} is missing" in problems, name
        if file.parent != serving and file.name != checksums.FILE:
            assert f"{file}~ was added" in problems, name
        file.with_name(f"{file.name}~").rename(file)
    for below in {file.parent for file in publications.files(folder).values()} - {serving}:
        (below / ".hidden").write_text("")
        assert verify(folder).problems == (f"{below}/.hidden was added",)
        (below / ".hidden").unlink()
    assert verify(folder).ok


def test_files_of_the_serving_folder_without_checksums_are_not_known_to_be_whole(serving: Path) -> None:
    (serving / checksums.FILE).unlink()
    found = verify(serving)
    assert (found.ok, found.problems) == (False, ())
    assert "models.config" in found.unchecked[0]


def test_what_users_put_beside_is_theirs(serving: Path) -> None:
    (serving / "compose.override.yaml").write_text("services: {}\n")
    (serving / "notes").mkdir()
    assert verify(serving).ok
    (serving / "tensorflow_session.config").write_text("what servers may read is not")
    assert verify(serving).problems == (f"{serving}/tensorflow_session.config was added",)


@pytest.mark.parametrize("name", [f"{SAVED}/saved_model.pb", f"{SAVED}/variables", "models.config", TRITON,
                                  "triton/demo/config.pbtxt", f"{SAVED}/SHA256SUMS", f"{TRITON}/trt_pipeline.json"])
def test_a_link_is_not_what_was_published(serving: Path, name: str) -> None:
    """Even to the very content: what is behind it changes without a trace here."""
    aside = serving.parent / "aside"
    (serving / name).rename(aside)
    (serving / name).symlink_to(aside)
    assert any(line.startswith(f"{serving / name} is a link") for line in verify(serving).problems)


def test_neither_is_a_pipe(serving: Path) -> None:
    (serving / SAVED / "saved_model.pb").unlink()
    os.mkfifo(serving / SAVED / "saved_model.pb")
    assert verify(serving).problems == (
        f"{serving}/{SAVED}/saved_model.pb is no regular file, and not what was published",)


def test_new_checksums_do_not_make_another_model_what_the_statement_is_about(serving: Path) -> None:
    version = serving / SAVED
    (version / "saved_model.pb").write_bytes(b"another")
    (version / "extra").write_text("more")
    place = version / "assets.extra/trt_pipeline"
    (place / "sbom.cdx.json").write_text("{}")
    (version / checksums.FILE).write_bytes(checksums.text(checksums.of_folder(version)))
    says = "assets.extra/trt_pipeline/provenance.json"
    assert verify(version).problems == (
        f"{place}/sbom.cdx.json is not what {says} says", f"{version}/saved_model.pb is not what {says} says",
        f"{version}/extra is nothing that {says} knows of")


def test_a_model_is_its_newest_version_and_a_serving_folder_is_all(serving: Path) -> None:
    shutil.copytree(serving / SAVED, serving / "demo/2")
    (serving / SAVED / "saved_model.pb").write_bytes(b"other")
    assert verify(serving / "demo").ok
    assert not verify(serving / SAVED).ok
    assert len(verify(serving).versions) == 3
    assert not verify(serving).ok


@pytest.mark.parametrize("undo", [
    lambda version: (version / checksums.FILE).unlink(),
    lambda version: (version / "trt_pipeline.json").write_text("{}"),
], ids=["with a manifest that names them", "with a manifest that was changed"])
def test_checksums_do_not_go_unnoticed(serving: Path, undo: Callable[[Path], object]) -> None:
    undo(serving / SAVED)
    assert len(verify(serving / SAVED).problems) == 1


def test_of_what_an_earlier_version_published_it_says_so(serving: Path) -> None:
    version = serving / SAVED
    (version / checksums.FILE).unlink()
    manifest = json.loads((version / versions.MANIFEST).read_text())
    del manifest[checksums.KEY]
    (version / versions.MANIFEST).write_text(json.dumps(manifest))
    found = verify(serving)
    assert (found.ok, found.problems, [one.path for one in found.versions]) == (False, (), [str(serving / TRITON)])
    assert found.unchecked == (f"{version} has no SHA256SUMS: published by an earlier version of trt-pipeline or by "
                               "something else; publish it again to have it checked",)


def test_a_savedmodel_may_have_files_that_are_called_as_triton_s(tmp_path: Path) -> None:
    for name in ("saved_model.pb", "README.md", "config.pbtxt", "warmup/data"):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text("its own")
    tf_serving.publish(tmp_path / "model", tmp_path / "serving", "demo", {"digest": "of demo"}, None)
    for path in ("serving", "serving/demo", "serving/demo/1"):
        assert verify(tmp_path / path).problems == ()
    (tmp_path / "serving/demo/README.md").write_text("its own")
    assert verify(tmp_path / "serving/demo").problems == (f"{tmp_path}/serving/demo/README.md was added",)


@pytest.mark.parametrize("path", ["", "triton/demo", TRITON])
@pytest.mark.parametrize(("module", "name"), [(verification, "_version"), (triton, "is_front")],
                         ids=["before the configuration is looked at", "while it is"])
def test_a_version_published_meanwhile_may_change_the_configuration(
        serving: Path, monkeypatch: pytest.MonkeyPatch, path: str, module: ModuleType, name: str) -> None:
    real, asked = getattr(module, name), []

    def call(argument: Any) -> Any:
        found = real(argument)
        asked.append(argument)
        if len(asked) == 1:
            publications.publish(serving.parent, content="another", targets=publications.TARGETS[1:], max_batch_size=2)
        return found

    before = (serving / "triton/demo/config.pbtxt").read_bytes()
    monkeypatch.setattr(module, name, call)
    # Of the serving folder's own files, what their checksums say is read before.
    assert verify(serving / path).problems == ()
    assert versions.existing(serving / "triton/demo") == [1, 2]
    assert (serving / "triton/demo/config.pbtxt").read_bytes() != before


def test_what_cannot_be_read_is_named(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs these tests may read everything, so the refusal is made up."""
    real_open, real_scan = Path.open, os.scandir

    def refuse(real: Callable[..., Any], closed: Path) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if Path(path) == closed:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(closed))
            return real(path, *arguments, **options)

        return call

    for file in publications.files(serving).values():
        monkeypatch.setattr(Path, "open", refuse(real_open, file))
        assert verify(serving).problems == (f"{file} cannot be read: Permission denied",)
    monkeypatch.setattr(Path, "open", real_open)
    for folder in {file.parent for file in publications.files(serving / SAVED).values()}:
        monkeypatch.setattr(os, "scandir", refuse(real_scan, folder))
        assert verify(serving).problems == (f"{folder} cannot be read: Permission denied",)


@pytest.mark.parametrize(("path", "says"), [("nowhere", "is no folder"), ("file", "is no folder"),
                                            ("empty", "nothing is published in")])
def test_what_is_no_publication_is_refused_in_one_line(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=says) as caught:
        verify(tmp_path / path)
    assert "\n" not in str(caught.value)
