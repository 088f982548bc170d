"""The models that a server holds: versions that come, go and fail while requests run, labels, reloads, states."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_models import config, publish, save, until

from trt_pipeline.errors import ConfigError, ModelError
from trt_pipeline.serve import aspired, models_config
from trt_pipeline.serve.aspired import Action, Standing, State, next_action
from trt_pipeline.serve.models_config import All, Latest, ServerConfig, Specific
from trt_pipeline.serve.refusal import Code, RefusalError
from trt_pipeline.serve.store import ModelStore, Spec

X = np.array([[1, 2]], np.float32)
Put = Callable[..., Path]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Versions 1 to 6 of tiny, to be copied."""
    folder = tmp_path_factory.mktemp("saved")
    for version in range(1, 7):
        save(folder / str(version), version)
    return {version: folder / str(version) for version in range(1, 7)}


@pytest.fixture
def put(saved: dict[int, Path], tmp_path: Path) -> Put:
    """Publish versions of a model; get its base path."""
    def publish_versions(*versions: int, name: str = "tiny") -> Path:
        for version in versions:
            publish(saved, tmp_path / "serving" / name, version, tmp_path / "staging")
        return tmp_path / "serving" / name
    return publish_versions


@contextmanager
def started(what: ServerConfig, **options: Any) -> Iterator[ModelStore]:
    """A store that polls often, while the context lasts."""
    store = ModelStore(what, **({"poll_seconds": 0.02, "reload_seconds": 60} | options))
    store.start()
    try:
        yield store
    finally:
        store.stop()


def ask(store: ModelStore, name: str = "tiny", version: int | None = None, label: str | None = None) -> int:
    """The version that answers, by its own word, the store's and its outputs', which have to agree."""
    with store.lease(Spec(name, version, label)) as servable:
        answer = servable.infer("serving_default", {"x": X})
        assert answer["y"].tolist() == [[servable.version, 2.0 * servable.version]]
        assert answer["version"].tolist() == [servable.version]
        return servable.version


def refusal(call: Callable[[], Any]) -> tuple[Code, str]:
    with pytest.raises(RefusalError) as refused:
        call()
    return refused.value.code, refused.value.message


def states(store: ModelStore, name: str = "tiny") -> dict[int, State]:
    return {state.version: state.state for state in store.states(name)}


def test_policies(put: Put) -> None:
    base = put(1, 2, 3)
    (base / "latest").mkdir()
    (base / ".staging-1").mkdir()
    (base / "4").write_text("a file is no version")
    for policy, loaded in ((Latest(), [3]), (Latest(versions=2), [3, 2]), (All(), [3, 2, 1]),
                           (Specific(versions=(1, 3, 9)), [3, 1])):
        with started(config(base, policy)) as store:
            assert [(s.version, s.state, s.code, s.message) for s in store.states("tiny")] == [
                (version, State.AVAILABLE, 0, "") for version in loaded]
            assert ask(store) == 3
            assert ask(store, version=loaded[-1]) == loaded[-1]


def test_what_is_not_found(put: Put) -> None:
    with started(config(put(1), stable=1)) as store:
        assert store.names() == ["tiny"]
        assert ask(store, label="stable") == 1
        for spec, code, message in (
                (Spec("zzz"), Code.NOT_FOUND, "Servable not found for request: Latest(zzz)"),
                (Spec("tiny", 9), Code.NOT_FOUND, "Servable not found for request: Specific(tiny, 9)"),
                (Spec("tiny", 0), Code.NOT_FOUND, "Servable not found for request: Specific(tiny, 0)"),
                (Spec("zzz", 1), Code.NOT_FOUND, "Servable not found for request: Specific(zzz, 1)"),
                (Spec("tiny", None, "canary"), Code.INVALID_ARGUMENT, "Unrecognized servable version label: canary"),
                (Spec("zzz", None, "stable"), Code.INVALID_ARGUMENT, "Unrecognized servable version label: stable"),
                (Spec(""), Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")):
            assert refusal(store.lease(spec).__enter__) == (code, message)
        assert refusal(lambda: store.states("zzz")) == (Code.NOT_FOUND, "Could not find any versions of model zzz")
        assert refusal(lambda: store.states("tiny", 9)) == (Code.NOT_FOUND, "Could not find version 9 of model tiny")
        assert store.states("tiny", 1) == store.states("tiny")


def test_five_versions_arrive_under_load(put: Put) -> None:
    base = put(1)
    done = threading.Event()
    failures: list[BaseException] = []
    counts: dict[int, int] = {}

    def client() -> None:
        last = 0
        try:
            while not done.is_set():
                version = ask(store)
                assert version >= last, "an older version answered after a newer one"
                last = version
                counts[version] = counts.get(version, 0) + 1
        except BaseException as error:
            failures.append(error)

    def answered(version: int) -> bool:
        return counts.get(version, 0) > 20 or bool(failures)

    with started(config(base)) as store:
        clients = [threading.Thread(target=client) for _ in range(8)]
        for thread in clients:
            thread.start()
        for version in range(2, 7):
            put(version)
            until(partial(answered, version), f"version {version} answers")
        done.set()
        for thread in clients:
            thread.join()
        assert not failures
        assert set(counts) == {1, 2, 3, 4, 5, 6}
        until(lambda: states(store) == {6: State.AVAILABLE} | dict.fromkeys(range(1, 6), State.END), "the old ones end")


def test_an_unloaded_version_goes_after_its_last_request(put: Put) -> None:
    base = put(1)
    with started(config(base)) as store:
        with store.lease(Spec("tiny")) as first, store.lease(Spec("tiny", 1)):
            put(2)
            until(lambda: states(store) == {2: State.AVAILABLE, 1: State.UNLOADING}, "version 2 takes over")
            assert ask(store) == 2
            assert refusal(lambda: ask(store, version=1))[1] == "Servable not found for request: Specific(tiny, 1)"
            assert first.infer("serving_default", {"x": X})["version"] == 1
            time.sleep(0.1)  # several polls
            assert states(store)[1] == State.UNLOADING
        until(lambda: states(store)[1] == State.END, "version 1 ends")
        with pytest.raises(RefusalError):
            first.infer("serving_default", {"x": X})  # its memory is gone


def test_a_version_that_is_wanted_again_before_it_went_stays(put: Put) -> None:
    base = put(1, 2)
    with started(config(base, Specific(versions=(1,)))) as store:
        with store.lease(Spec("tiny")) as held:
            store.reload(config(base, Specific(versions=(2,))))
            assert states(store) == {2: State.AVAILABLE, 1: State.UNLOADING}
            store.reload(config(base, Specific(versions=(1, 2))))
            with store.lease(Spec("tiny", 1)) as again:
                assert again is held
        assert states(store) == {2: State.AVAILABLE, 1: State.AVAILABLE}


def test_a_version_that_fails_leaves_the_others_alone_and_is_tried_again_once_it_changes(
        put: Put, saved: dict[int, Path], caplog: pytest.LogCaptureFixture) -> None:
    base = put(1)
    with started(config(base)) as store, caplog.at_level(logging.ERROR):
        (base / "2").mkdir()
        (base / "2" / "saved_model.pb").write_bytes(b"nonsense")
        until(lambda: states(store).get(2) == State.END, "version 2 fails")
        failed = store.states("tiny", 2)[0]
        assert failed.code == Code.DATA_LOSS
        assert "is truncated or corrupt" in failed.message
        assert ask(store) == 1
        time.sleep(0.2)  # several polls
        assert caplog.text.count("cannot load model tiny version 2: DATA_LOSS") == 1
        shutil.copytree(saved[2], base / "2", dirs_exist_ok=True)
        until(lambda: states(store) == {2: State.AVAILABLE, 1: State.END}, "version 2 is loaded", 120)
        assert store.states("tiny", 2)[0].code == 0


def test_a_failed_warm_up_keeps_a_version_from_serving(put: Put, saved: dict[int, Path]) -> None:
    base = put(1)
    bad = base.parent / "2"
    shutil.copytree(saved[2], bad)
    (bad / "assets.extra").mkdir()
    (bad / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"these are no records, by far")
    bad.rename(base / "2")
    with started(config(base, All())) as store:
        assert [(s.version, s.state, s.code) for s in store.states("tiny")] == [
            (2, State.END, Code.DATA_LOSS), (1, State.AVAILABLE, 0)]
        assert ask(store) == 1


def test_versions_and_base_paths_that_vanish(put: Put) -> None:
    base = put(1, 2, 3)
    with started(config(base, All())) as store:
        shutil.rmtree(base / "2")
        until(lambda: states(store)[2] == State.END, "version 2 ends")
        assert (ask(store), ask(store, version=1)) == (3, 1)
        base.rename(base.with_name("aside"))
        time.sleep(0.1)  # several polls
        assert (ask(store), ask(store, version=1)) == (3, 1), "what cannot be read takes nothing away"
        base.mkdir()
        until(lambda: set(states(store).values()) == {State.END}, "an empty folder ends every version")
        put(2)
        until(lambda: states(store)[2] == State.AVAILABLE, "version 2 is back")


def test_a_version_that_vanishes_between_listing_and_loading(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    base, look = put(1), aspired.aspired

    def look_and_remove(model: Any) -> Any:
        found = look(model)
        shutil.rmtree(base / "2", ignore_errors=True)
        return found

    with started(config(base)) as store:
        monkeypatch.setattr("trt_pipeline.serve.store.aspired", look_and_remove)
        put(2)
        until(lambda: 2 in states(store) and states(store)[2] == State.END, "version 2 was seen")
        assert store.states("tiny", 2)[0].code == Code.NOT_FOUND
        assert ask(store) == 1
        monkeypatch.undo()
        put(3)
        until(lambda: ask(store) == 3, "version 3 answers")


def test_labels(put: Put) -> None:
    base = put(1, 2)
    with started(config(base, All(), stable=1, canary=2)) as store:
        assert (ask(store, label="stable"), ask(store, label="canary")) == (1, 2)
        store.reload(config(base, All(), stable=2))
        assert ask(store, label="stable") == 2
        assert refusal(lambda: ask(store, label="canary"))[1] == "Unrecognized servable version label: canary"
        assert refusal(lambda: store.reload(config(base, All(), stable=3))) == (Code.FAILED_PRECONDITION, (
            "Request to assign label to version 3 of model tiny, which is not currently available for inference"))
        assert ask(store, label="stable") == 2
        put(3)
        until(lambda: ask(store) == 3, "version 3 answers")
        store.reload(config(base, All(), stable=3))
        assert ask(store, label="stable") == 3


def test_labels_for_what_is_not_loaded_yet(put: Put) -> None:
    base = put(1)
    with pytest.raises(ConfigError, match=r"^Request to assign label to version 2 of model tiny, which is not"):
        ModelStore(config(base, canary=2)).start()
    with started(config(base, All(), canary=2), allow_labels_for_unavailable=True) as store:
        assert refusal(lambda: ask(store, label="canary"))[1] == "Servable not found for request: Specific(tiny, 2)"
        put(2)
        until(lambda: ask(store) == 2, "version 2 answers")
        assert ask(store, label="canary") == 2
        assert refusal(lambda: store.reload(config(base, All(), canary=3)))[0] == Code.FAILED_PRECONDITION


def test_reload_replaces_the_whole_set(put: Put) -> None:
    first, second = put(1, 2), put(3, name="other")
    with started(config(first)) as store:
        store.reload(config(second, name="other"))
        assert store.names() == ["other"]
        assert ask(store, "other") == 3
        assert refusal(lambda: ask(store))[1] == "Servable not found for request: Latest(tiny)"
        until(lambda: states(store) == {2: State.END}, "what is not listed any more ends")
        store.reload(config(first, Specific(versions=(1,))))
        assert ask(store) == 1


def test_a_reload_that_is_refused_changes_nothing(put: Put, tmp_path: Path) -> None:
    base = put(1)
    (tmp_path / "empty").mkdir()
    before = config(base)
    other_platform = ServerConfig(models=(before.models[0].model_copy(update={"platform": "onnxruntime"}),))
    with started(before) as store:
        for wrong, code, message in (
                (other_platform, Code.INVALID_ARGUMENT, "Illegal to change a model's platform. For model tiny platform "
                                                        "was tensorflow and new platform requested is onnxruntime"),
                (config(tmp_path / "absent", name="new"), Code.INVALID_ARGUMENT,
                 f"Could not find base path {tmp_path / 'absent'} for servable new with error NOT_FOUND: "
                 f"{tmp_path / 'absent'} not found"),
                (config(tmp_path / "empty", name="new"), Code.NOT_FOUND,
                 f"Unable to find a numerical version path for servable new at: {tmp_path / 'empty'}")):
            assert refusal(partial(store.reload, wrong)) == (code, message)
            assert (store.names(), ask(store)) == (["tiny"], 1)


def test_a_reload_whose_model_does_not_load(put: Put) -> None:
    base, broken = put(1), put(2, name="broken")
    (broken / "2" / "saved_model.pb").write_bytes(b"nonsense")
    both = ServerConfig(models=(*config(base).models, *config(broken, name="broken").models))
    with started(config(base)) as store:
        code, message = refusal(lambda: store.reload(both))
        assert code == Code.UNKNOWN
        assert message.startswith("1 model(s) did not become available: {{{name: broken version: 2} due to error: "
                                  "DATA_LOSS: ")
        assert message.endswith("}, }")
        assert (ask(store), states(store, "broken")) == (1, {2: State.END})


def test_a_configuration_file_that_changes(put: Put, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "serving" / "models.config"

    def entry(name: str, more: str = "", platform: str = "tensorflow") -> str:
        return (f'config {{ name: "{name}" base_path: "/models/no-{name}" model_platform: "{platform}" '
                f"model_version_policy {{ all {{}} }} {more} }}")

    def write(*entries: str) -> None:
        other = file.with_name("new.config")
        other.write_text(f"model_config_list {{ {' '.join(entries)} }}")
        os.replace(other, file)

    def label(version: int) -> str:
        return f'version_labels {{ key: "stable" value: {version} }}'

    put(1, name="no-a")
    write(entry("a", label(1)))
    with started(models_config.read(file)) as store:
        assert ask(store, "a", label="stable") == 1
        put(3, name="no-b")
        write(entry("a", label(2)), entry("b"))  # the label runs ahead of its version
        until(lambda: store.names() == ["a", "b"] and states(store, "b") == {3: State.AVAILABLE}, "model b appears")
        assert ask(store, "a", label="stable") == 1, "a label moves when its version answers"
        put(2, name="no-a")
        until(lambda: ask(store, "a", label="stable") == 2, "the label moves")
        for wrong in ("nonsense", entry("a", platform="onnxruntime")):
            caplog.clear()
            write(wrong)
            until(lambda: "the configuration stays as it was" in caplog.text, "a complaint")
            assert (store.names(), ask(store, "b")) == (["a", "b"], 3)
        write(entry("b"))
        until(lambda: store.names() == ["b"], "model a is gone")


def test_models_that_appear_in_a_serving_folder(put: Put, tmp_path: Path) -> None:
    put(1, name="a")
    with started(models_config.find(tmp_path / "serving")) as store:
        put(2, name="b")
        until(lambda: store.names() == ["a", "b"] and states(store, "b") == {2: State.AVAILABLE}, "model b appears")
        assert (ask(store, "a"), ask(store, "b")) == (1, 2)


def test_a_server_without_anything_to_answer_does_not_start(put: Put) -> None:
    base = put(1)
    (base / "1" / "saved_model.pb").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"^no model can be served: version 1 of tiny cannot be loaded: .*corrupt"):
        ModelStore(config(base)).start()
    shutil.rmtree(base / "1")
    with pytest.raises(ModelError, match=r"^no model can be served: none has a version; run trt-pipeline optimize"):
        ModelStore(config(base)).start()


def test_a_stopped_store_answers_nothing_more(put: Put) -> None:
    with started(config(put(1))) as store:
        lease: AbstractContextManager[Any] = store.lease(Spec("tiny"))
        held = lease.__enter__()
        store.stop()
        assert refusal(lambda: ask(store))[0] == Code.NOT_FOUND
        assert held.infer("serving_default", {"x": X})["version"] == 1, "what a request holds it keeps"
        assert refusal(lambda: store.reload(config(Path("/")))) == (Code.UNAVAILABLE, "the server is stopping")
        lease.__exit__(None, None, None)


@pytest.mark.parametrize(("standings", "action"), [
    ([], None),
    ([(1, True, State.AVAILABLE)], None),
    ([(1, True, State.START), (3, True, State.START), (2, True, State.START)], Action("load", 3)),
    ([(1, False, State.AVAILABLE), (2, True, State.START)], Action("load", 2)),
    ([(1, False, State.AVAILABLE), (2, True, State.LOADING)], None),
    ([(1, False, State.AVAILABLE), (2, True, State.AVAILABLE)], Action("unload", 1)),
    ([(1, False, State.AVAILABLE), (2, True, State.END)], None),
    ([(1, False, State.AVAILABLE), (2, False, State.AVAILABLE), (3, True, State.END)], Action("unload", 1)),
    ([(1, False, State.AVAILABLE), (2, True, State.AVAILABLE), (3, True, State.START)], Action("unload", 1)),
    ([(1, False, State.AVAILABLE)], Action("unload", 1)),
    ([(1, False, State.UNLOADING), (2, False, State.END)], None),
])
def test_the_last_version_that_answers_goes_last(standings: list[tuple[int, bool, State]],
                                                 action: Action | None) -> None:
    assert next_action(Standing(*standing) for standing in standings) == action
