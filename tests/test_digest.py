"""Digests: the identity of files and folders, whatever their layout on the disk."""

from __future__ import annotations

from pathlib import Path

from trt_pipeline import digest


def folder(root: Path, content: bytes = b"weights") -> Path:
    (root / "variables").mkdir(parents=True)
    (root / "variables" / "data").write_bytes(content)
    (root / "saved_model.pb").write_bytes(b"graph")
    return root


def test_the_same_files_have_the_same_digest_wherever_they_lie(tmp_path: Path) -> None:
    assert digest.of_folder(folder(tmp_path / "a")) == digest.of_folder(folder(tmp_path / "b"))


def test_a_byte_and_a_name_count(tmp_path: Path) -> None:
    known = digest.of_folder(folder(tmp_path / "a"))
    assert digest.of_folder(folder(tmp_path / "b", b"weightz")) != known
    renamed = folder(tmp_path / "c")
    (renamed / "saved_model.pb").rename(renamed / "saved_model.pbtxt")
    assert digest.of_folder(renamed) != known


def test_files_behind_links_count(tmp_path: Path) -> None:
    """As data version control lays models out: the folder is there, the weights are elsewhere."""
    model, store = folder(tmp_path / "model"), tmp_path / "store"
    plain = digest.of_folder(model)
    (model / "variables").rename(store)
    (model / "variables").symlink_to(store, target_is_directory=True)
    assert digest.of_folder(model) == plain
    (store / "data").write_bytes(b"retrained")
    assert digest.of_folder(model) != plain


def test_a_link_back_up_ends(tmp_path: Path) -> None:
    model = folder(tmp_path / "model")
    (model / "loop").symlink_to(model, target_is_directory=True)
    assert len(digest.of_folder(model)) == 64


def test_the_order_of_keys_does_not_count() -> None:
    assert digest.of_value({"a": 1, "b": [2]}) == digest.of_value({"b": [2], "a": 1})
    assert digest.of_value({"a": 1}) != digest.of_value({"a": 2})
