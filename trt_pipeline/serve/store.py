"""The models of a server: versions come and go while requests keep the ones that they run on.

One thread of the store looks at the folders, loads and unloads. A version is loaded whole and warmed up before it
answers, and goes once another answers in its place and its last request has ended.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trt_pipeline.errors import ConfigError, ModelError, PipelineError
from trt_pipeline.serve import models_config
from trt_pipeline.serve.aspired import Standing, State, aspired, next_action
from trt_pipeline.serve.held import Held, Spec, Version, VersionState
from trt_pipeline.serve.models_config import ServerConfig
from trt_pipeline.serve.refusal import Code, RefusalError

if TYPE_CHECKING:
    from trt_pipeline.serve.servable import Servable

__all__ = ["ModelStore", "Spec", "State", "VersionState"]
_log = logging.getLogger(__name__)


class ModelStore:
    """The loaded versions of every model. Thread-safe; only `start`, `stop` and `reload` block."""

    def __init__(self, config: ServerConfig, *, poll_seconds: float = 1.0, reload_seconds: float = 300.0,
                 allow_labels_for_unavailable: bool = False) -> None:
        """
        Args:
            config: what to serve; where it has a source, that is read again with every poll.
            poll_seconds: between two looks at the folders.
            reload_seconds: for which `reload` waits at most.
            allow_labels_for_unavailable: let a new label name a version that does not answer yet, as
                ``tensorflow_model_server --allow_version_labels_for_unavailable_models`` does.
        """
        self._poll_seconds, self._reload_seconds = poll_seconds, reload_seconds
        self._held = Held(config, allow_labels_for_unavailable)
        self._told = config  # what its source said last
        self._changed = threading.Condition()  # the lock of everything here, `_told` and `_complaints` excepted
        self._asked, self._settled = 1, 0  # configurations that were put in force, and carried out
        self._drained = self._stopping = False
        self._complaints: set[str] = set()
        self._reloading = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    def start(self) -> None:
        """Load every version that is asked for, and go on looking for new ones in a thread.

        Versions that cannot be loaded are logged; `states` has their errors.

        Raises:
            ConfigError: a label names a version that does not answer.
            ModelError: no model has a version that answers.
        """
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._settled or self._stopping)
            failure = self._failure_at_start()
        if failure:
            self.stop()
            raise failure

    def stop(self) -> None:
        """Let go of every model that no request holds. Blocks while one is being loaded."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        with self._changed:
            for name, model in self._held.models.items():
                for number in model.versions:
                    if model.answers(number):
                        self._held.turn(name, number, State.UNLOADING)
        self._let_go()

    @contextmanager
    def lease(self, spec: Spec) -> Iterator[Servable]:
        """The version that ``spec`` names; it stays loaded while the context lasts.

        Raises:
            RefusalError: NOT_FOUND, there is no such version that answers; INVALID_ARGUMENT, no such label, no name.
        """
        with self._changed:
            version = self._held.find(spec)
            version.leases += 1
            servable = version.servable
        try:
            assert servable
            yield servable
        finally:
            with self._changed:
                version.leases -= 1
                if not version.leases and version.state == State.UNLOADING:
                    self._drained = True
                    self._changed.notify_all()

    def states(self, name: str, version: int | None = None) -> list[VersionState]:
        """Every version of ``name`` that has been asked for, newest first, or one of them.

        Raises:
            RefusalError: NOT_FOUND, there is none.
        """
        with self._changed:
            return self._held.states(name, version)

    def names(self) -> list[str]:
        """The configured models."""
        with self._changed:
            return [model.name for model in self._held.config.models]

    def reload(self, config: ServerConfig) -> None:
        """Serve ``config`` in place of what was served; returns once every version that it asks for was loaded.

        As TensorFlow Serving's HandleReloadConfigRequest. A configuration that is refused changes nothing; one whose
        new models turn out not to be loadable stays in force.

        Raises:
            RefusalError: INVALID_ARGUMENT or NOT_FOUND, the configuration is wrong or has a model without versions;
                FAILED_PRECONDITION, a label names a version that does not answer; UNKNOWN, a new model could not be
                loaded; DEADLINE_EXCEEDED, UNAVAILABLE.
        """
        with self._reloading:
            if source := self._told.source:
                config = models_config.located(config, source if source.is_dir() else source.parent)
            with self._changed:
                old = self._held.config
            models_config.check_change(old, config)
            models_config.check_platforms(config)
            new = tuple(model for model in config.models if old.model(model.name) is None)
            models_config.check_versions(new)
            with self._changed:
                if missing := self._held.unavailable_labels(config):
                    raise RefusalError(Code.FAILED_PRECONDITION, missing[0])
                self._put_in_force(config)
                self._wait_for(self._asked)
                if failed := self._held.failed(model.name for model in new):
                    raise _not_available(failed)

    def _wait_for(self, number: int) -> None:
        """Wait, with the lock held, until the configuration of this number has been carried out."""
        done = self._changed.wait_for(lambda: self._settled >= number or self._stopping, self._reload_seconds)
        if self._stopping:
            raise RefusalError(Code.UNAVAILABLE, "the server is stopping")
        if not done:
            raise RefusalError(Code.DEADLINE_EXCEEDED, "the configuration is in force, but not every model is loaded "
                                                       f"after {self._reload_seconds:g} s")

    def _put_in_force(self, config: ServerConfig) -> None:
        self._held.take_over(config)
        self._asked += 1
        self._changed.notify_all()

    def _failure_at_start(self) -> PipelineError | None:
        if missing := self._held.unavailable_labels(self._held.config):
            return ConfigError(missing[0])
        if any(model.newest is not None for model in self._held.models.values()):
            return None
        failed = [each for each in self._held.failed(self._held.models) if each[2].message]
        if failed:
            name, number, version = failed[-1]
            return ModelError(f"no model can be served: version {number} of {name} cannot be loaded: {version.message}")
        return ModelError("no model can be served: none has a version; run trt-pipeline optimize NAME first")

    # The thread's own part.

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                asked, self._drained = self._asked, False
            try:
                self._reread()
                self._carry_out()
            except Exception:  # whatever it is, what is loaded goes on being served
                _log.exception("looking for new versions failed")
            with self._changed:
                self._settled = asked
                self._changed.notify_all()
                self._changed.wait_for(self._woken, self._poll_seconds)

    def _woken(self) -> bool:
        return self._stopping or self._drained or self._asked > self._settled

    def _reread(self) -> None:
        """Put in force what the source of the configuration says, when that is something new."""
        try:
            told = models_config.again(self._told)
            if told == self._told:
                return
            models_config.check_change(self._held.config, told)
        except (PipelineError, RefusalError) as error:
            self._complain(f"the configuration stays as it was: {error}")
            return
        self._told = told
        with self._changed:
            self._put_in_force(told)
        _log.info("new configuration: %s", ", ".join(model.name for model in told.models))

    def _carry_out(self) -> None:
        """Load and unload until every model has what it should."""
        with self._changed:
            names = list(self._held.models)
        for name in names:
            while not self._stopping and self._step(name):
                self._let_go()
        self._let_go()
        with self._changed:
            missing = self._held.unavailable_labels(self._held.config)
        for message in missing:
            self._complain(message)

    def _step(self, name: str) -> bool:
        """Do the next thing that ``name`` needs; False when there is nothing to do."""
        with self._changed:
            config = self._held.config.model(name)
        wanted = aspired(config) if config else {}
        if wanted is None:
            assert config
            self._complain(f"cannot read the base path {config.base_path} of model {name}: its versions stay as they "
                           "are")
            return False
        files = {number: _files(folder) for number, folder in wanted.items() if self._has_failed(name, number)}
        with self._changed:
            if self._held.config.model(name) is not config:
                return True  # another configuration came in between
            versions = self._held.models[name].versions
            for number, folder in wanted.items():
                known = versions.get(number)
                if known is None or (known.state == State.END
                                     and (not known.aspired or files.get(number, frozenset()) != known.seen)):
                    versions[number] = Version(folder)
                elif known.state == State.UNLOADING:  # and still held by a request
                    self._held.turn(name, number, State.AVAILABLE)
            for number, version in list(versions.items()):
                version.aspired = number in wanted
                if version.state == State.START and not version.aspired:
                    del versions[number]
            action = next_action(Standing(n, v.aspired, v.state) for n, v in versions.items())
            if action is None:
                return False
            loads = action.what == "load"
            self._held.turn(name, action.version, State.LOADING if loads else State.UNLOADING)
        if loads:
            self._load(name, action.version, versions[action.version])
        return True

    def _has_failed(self, name: str, number: int) -> bool:
        with self._changed:
            known = self._held.models[name].versions.get(number)
            return known is not None and known.state == State.END and known.code != 0

    def _load(self, name: str, number: int, version: Version) -> None:
        from trt_pipeline.serve import warmup
        from trt_pipeline.serve.servable import load, refusal_of

        version.seen = _files(version.folder)
        servable = None
        try:
            servable = load(name, number, version.folder)
            warmup.replay(servable)
        except Exception as error:
            if servable:
                servable.close()
            refused = refusal_of(error)
            _log.error("cannot load model %s version %d: %s: %s", name, number, refused.code.name, refused.message,
                       exc_info=not isinstance(error, RefusalError))
            with self._changed:
                version.code, version.message = refused.code, refused.message
                self._held.turn(name, number, State.END)
            return
        with self._changed:
            version.servable = servable
            self._held.turn(name, number, State.AVAILABLE)

    def _let_go(self) -> None:
        """Close the versions that are to go and that no request holds any more."""
        with self._changed:
            gone = self._held.drained()
        for name, number, version in gone:
            servable, version.servable = version.servable, None
            if servable:
                servable.close()
            with self._changed:
                self._held.turn(name, number, State.END)

    def _complain(self, message: str) -> None:
        """Log what a poll finds wrong, once."""
        if message not in self._complaints:
            self._complaints.add(message)
            _log.warning("%s", message)


def _not_available(failed: list[tuple[str, int, Version]]) -> RefusalError:
    each = "".join(f"{{{{name: {name} version: {number}}} due to error: {Code(version.code or Code.UNKNOWN).name}: "
                   f"{version.message}}}, " for name, number, version in failed)
    return RefusalError(Code.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{each}}}")


def _files(folder: Path) -> frozenset[tuple[str, int, int]]:
    """What tells whether a folder has changed: name, size and time of each file."""
    found = set()
    try:
        for path in folder.rglob("*"):
            about = path.stat()
            found.add((str(path.relative_to(folder)), about.st_size, about.st_mtime_ns))
    except OSError:
        pass  # it is just going away
    return frozenset(found)
