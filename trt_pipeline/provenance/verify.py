"""Whether what is published is what was published: every byte of a version, a model or a serving folder.

By checksums, which find what went wrong by itself: on a disk, in a copy, by hand. Whoever may write to the folder can
write new ones; against that there is a signature on the statement (docs/provenance.md).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from trt_pipeline import digest
from trt_pipeline.errors import InputError
from trt_pipeline.frozen import Frozen
from trt_pipeline.provenance import published
from trt_pipeline.provenance.published import Said
from trt_pipeline.publish import checksums, serving_folder, triton, versions
from trt_pipeline.publish.layout import TRITON_FOLDER

# How often a folder that a publication is changing is looked at again.
_TRIES = 3


class VerifiedVersion(Frozen):
    """One version whose checksums were read."""

    path: str
    files: int
    """How many there are below it, checksums included."""
    candidate: str
    """What it says it is; empty where it says nothing."""
    said: Said | None
    """Its statement; None without one."""

    def __str__(self) -> str:
        facts = [self.candidate, f"{self.files} files"]
        if self.said:
            facts.append(f"made by run {self.said.run}, {self.said.finished}, of the model {self.said.model[:12]}")
        else:
            facts.append("nothing says where it comes from")
        return f"{self.path}: " + ", ".join(filter(None, facts))


class Verified(Frozen):
    """What was found of a publication."""

    versions: tuple[VerifiedVersion, ...] = ()
    files: int = 0
    """How many were read."""
    problems: tuple[str, ...] = ()
    """A line each: the file, and what is wrong with it."""
    unchecked: tuple[str, ...] = ()
    """A line for each folder that nobody can say anything of: it has no checksums."""
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything was checked, and is whole."""
        return not self.problems and not self.unchecked

    def lines(self) -> list[str]:
        """For people: what was verified, what is wrong, what nobody knows."""
        return [*map(str, self.versions), *self.notes, *self.unchecked, *self.problems]


def verify(path: Path) -> Verified:
    """Check a version's folder, a model's (its newest version), a Triton repository or a serving folder (all of it).

    Raises:
        InputError: nothing is published there.
    """
    try:
        return _found(path.absolute())
    except OSError as error:  # of a folder that cannot be listed
        return Verified(problems=(_unreadable(error),))


def _found(path: Path) -> Verified:
    if not path.is_dir():
        raise InputError(f"{path} is no folder: name a version's, such as serving/enko/1, a model's, or serving itself")
    if versions.is_version(path.name) and not versions.existing(path):
        newest = versions.existing(path.parent)[-1:] == [int(path.name)]
        return _merged([_version(path), *([_front(path.parent)] if newest else [])])
    if known := versions.existing(path):
        return _merged([_version(path / str(known[-1])), _front(path)])
    models = [one for one in sorted(path.iterdir()) if not one.name.startswith(".") and versions.existing(one)]
    repository = path / TRITON_FOLDER
    if not models and not repository.is_dir():
        raise InputError(f"nothing is published in {path}: name a version's folder, such as serving/enko/1, a model's, "
                         "or a serving folder")
    found = [_shared(path)]
    for model in (*models, *(sorted(repository.iterdir()) if repository.is_dir() else ())):
        if not model.is_dir() or not (known := versions.existing(model)):
            continue
        found += [_version(model / str(number)) for number in known]
        found.append(_front(model))
    return _merged(found)


def _merged(found: list[Verified]) -> Verified:
    return Verified(
        versions=tuple(one for part in found for one in part.versions), files=sum(part.files for part in found),
        problems=tuple(line for part in found for line in part.problems),
        unchecked=tuple(line for part in found for line in part.unchecked),
        notes=tuple(line for part in found for line in part.notes))


def _again(folder: Path, check: Callable[[Path], Verified], state: Callable[[Path], object]) -> Verified:
    """What ``check`` finds of ``folder`` while no publication changes its ``state``."""
    for _ in range(_TRIES):
        before = state(folder)
        try:
            found = check(folder)
        except OSError as error:  # of a folder below
            found = Verified(problems=(_unreadable(error),))
        if not folder.exists():
            return Verified(notes=(f"{folder} was pruned meanwhile",))
        if state(folder) == before:
            break
    return found


def _unreadable(error: OSError) -> str:
    return f"{error.filename} cannot be read: {error.strerror}"


def _raw(folder: Path) -> list[bytes | None]:
    """The bytes of the checksums of ``folder``; None for those that are not there or cannot be read."""
    found: list[bytes | None] = []
    for file in (folder / checksums.FILE, folder / checksums.NEXT):
        try:
            found.append(file.read_bytes() if file.is_file() else None)
        except OSError:
            found.append(None)
    return found


def _version(folder: Path) -> Verified:
    return _again(folder, _checked_version, _raw)


def _checked_version(folder: Path) -> Verified:
    if folder.is_symlink():
        return Verified(problems=(f"{folder} is a link, and not what was published",))
    manifest = versions.manifest_in(folder) or {}
    try:
        sums, notes = _sums(folder)
    except ValueError as error:
        return Verified(problems=(str(error),))
    if sums is None and checksums.KEY not in manifest and not (folder / checksums.NEXT).exists():
        return Verified(unchecked=(f"{folder} has no {checksums.FILE}: published by an earlier version of trt-pipeline "
                                   "or by something else; publish it again to have it checked",))
    if sums is None:
        return Verified(problems=(f"{folder / checksums.FILE} is missing",))
    there, problems = _digests(folder, (entry for entry in checksums.entries(folder)
                                        if entry[0] not in (checksums.FILE, checksums.NEXT)))
    problems += _compared(folder, sums, there)
    said = None
    try:
        said = published.read(folder)
        problems += _said_otherwise(folder, said, there, manifest) if said and not problems else []
    except ValueError as error:
        problems += [] if problems else [f"{folder}: {error}"]
    one = VerifiedVersion(path=str(folder), files=len(there) + 1, said=said,
                          candidate=str(manifest.get("candidate", "")))
    return Verified(versions=(one,), files=one.files, problems=tuple(problems), notes=notes)


def _sums(folder: Path) -> tuple[list[dict[str, str]] | None, tuple[str, ...]]:
    """The checksums that files of ``folder`` may have, those to come last; None where there are none.

    Raises:
        ValueError: they are damaged themselves; the message is the problem's line.
    """
    found = []
    for name in (checksums.FILE, checksums.NEXT):
        if (folder / name).is_symlink():
            raise ValueError(f"{folder / name} is a link, and not what was published")
        try:
            sums = checksums.read(folder, name)
        except ValueError:
            raise ValueError(f"{folder / name} was changed: no other file here can be judged by it") from None
        except OSError as error:
            raise ValueError(f"{folder / name} cannot be read: {error.strerror}") from None
        if sums is None and name == checksums.FILE:
            return None, ()
        found += [] if sums is None else [sums]
    cut_off = f"{folder}: a publication was cut off; each file is as before it or after, and the next run completes it"
    return found, (cut_off,) if len(found) > 1 else ()


def _digests(folder: Path, entries: Iterable[tuple[str, bool]]) -> tuple[dict[str, str], list[str]]:
    """The digest of each file of ``folder`` (path, whether it is a regular one), empty of those that have a problem."""
    there, problems = dict[str, str](), list[str]()
    for name, regular in entries:
        there[name] = ""
        if not regular:
            kind = "a link" if (folder / name).is_symlink() else "no regular file"
            problems.append(f"{folder / name} is {kind}, and not what was published")
            continue
        try:
            there[name] = digest.of_file(folder / name)
        except OSError as error:
            problems.append(f"{folder / name} cannot be read: {error.strerror}")
    return there, problems


def _compared(folder: Path, sums: list[dict[str, str]], there: Mapping[str, str]) -> list[str]:
    """What ``there`` is that none of ``sums`` says; an empty digest is a problem that is known."""
    problems = []
    for name in sorted({*there, *(name for one in sums for name in one)}):
        found, allowed = there.get(name), [one.get(name) for one in sums]
        if found == "" or found in allowed:
            continue
        what = "is missing" if found is None else "was changed" if any(allowed) else "was added"
        problems.append(f"{folder / name} {what}")
    return problems


def _said_otherwise(folder: Path, said: Said, there: Mapping[str, str], manifest: Mapping[str, object]) -> list[str]:
    """Where the statement does not fit files that fit their checksums: those were written anew."""
    added = manifest.get("added", ())
    apart = {versions.MANIFEST, *(added if isinstance(added, list) else ()), *said.companions}
    expected = {**said.subjects, **{name: content for name, content in said.companions.items() if content}}
    problems = [f"{folder / name} is not what {said.file} says" for name, content in sorted(expected.items())
                if there.get(name) != content]
    return problems + [f"{folder / name} is nothing that {said.file} knows of"
                       for name in sorted({*there} - {*said.subjects} - apart)]


def _front(model: Path) -> Verified:
    return _again(model, _checked_front, lambda model: versions.existing(model)[-1:])


def _checked_front(model: Path) -> Verified:
    """What lies beside the versions: of Triton's, copies of the newest version's; of TensorFlow Serving's, nothing."""
    if not (known := versions.existing(model)):
        return Verified()
    newest = model / str(known[-1])
    try:
        sums = checksums.read(newest)
        readable = checksums.holds(newest, versions.MANIFEST)
    except (ValueError, OSError):
        sums, readable = None, False
    if sums is None or not readable or newest.is_symlink():
        return Verified()  # said of the version itself
    # Only Triton's versions are of one signature. A SavedModel may have files of the same names that are its own.
    of_triton = "signature" in (versions.manifest_in(newest) or {})
    expected = {name: content for name, content in sums.items() if of_triton and triton.is_front(name)}
    there, problems = _digests(model, _beside(model, set(map(str, known))))
    problems += _compared(model, [expected], there)
    return Verified(files=len(there), problems=tuple(problems))


def _beside(model: Path, numbers: Collection[str]) -> Iterator[tuple[str, bool]]:
    """`checksums.entries` of ``model``, without those of its versions."""
    with os.scandir(model) as found:
        for entry in found:
            if entry.name in numbers:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from checksums.entries(Path(entry.path), f"{entry.name}/")
            else:
                yield entry.name, entry.is_file(follow_symlinks=False)


def _shared(serving: Path) -> Verified:
    return _again(serving, _checked_shared, _raw)


def _checked_shared(serving: Path) -> Verified:
    """The files of a serving folder that are about all models; others that lie there are nobody's business here."""
    there, problems = _digests(serving, ((name, (serving / name).is_file() and not (serving / name).is_symlink())
                                         for name in serving_folder.FILES if os.path.lexists(serving / name)))
    try:
        sums, notes = _sums(serving)
    except ValueError as error:
        return Verified(problems=(str(error),))
    if sums is None:
        line = f"{serving} has no {checksums.FILE} for {', '.join(there)}: publish anything to have them checked"
        return Verified(unchecked=(line,) if there else ())
    return Verified(files=len(there) + 1, problems=(*problems, *_compared(serving, sums, there)), notes=notes)
