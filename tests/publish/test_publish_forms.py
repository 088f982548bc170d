"""One candidate for two servers: each gets the form that it loads."""

from __future__ import annotations

import json
from pathlib import Path

from tests.publish.candidates import ORIGINAL, candidate, judged, ratio
from tests.publish.signatures import IMAGE
from trt_pipeline.config.schema import Config
from trt_pipeline.engine import recipe
from trt_pipeline.model.contract import Contract
from trt_pipeline.publish.publish import publish_all
from trt_pipeline.results import CandidateResult, Publication
from trt_pipeline.samples.profiles import Extent

CONTRACT = Contract(tags=("serve",), signatures={IMAGE.name: IMAGE}, assets={}, extra_assets={}, tables=0,
                    variable_bytes=0, tensorflow_version="2.14.1")
PROFILE = {"image": Extent(min=(1, 8, 8, 1), opt=(8, 8, 8, 1), max=(16, 8, 8, 1))}


def engine(folder: Path) -> CandidateResult:
    """A plan and the SavedModel with the same engine in it, in ``folder``."""
    for file in ("serving_default/model.plan", "serving_default/model.onnx", "graft/saved_model.pb"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(file)
    recipe.write(recipe.Recipe(precision="fp16", tensorrt="10.5.0.18", typed=False), folder / "serving_default")
    plain = candidate("tensorrt/fp16", ratio(5.0), kind="tensorrt-plan", verdict=judged(error=0.001))
    assert plain.artifact
    return plain.model_copy(update={"artifact": plain.artifact.model_copy(update={
        "files": {IMAGE.name: "serving_default/model.plan"}, "built": {"gpu": "A100", "tensorrt": "10.5.0.18"},
        "also": {"tensorrt-savedmodel": {IMAGE.name: "graft"}}, "profiles": {IMAGE.name: (PROFILE,)}})})


def publish(folder: Path) -> tuple[Publication, ...]:
    config = Config.model_validate({
        "name": "demo", "model": "m", "samples": {"validation": "v.npz"}, "serving": folder / "serving",
        "targets": [{"kind": "tf-serving", "version": "2.15-gpu"}, {"kind": "triton", "version": "24.10"}]})
    made = engine(folder / "made")
    return publish_all(config, CONTRACT, (IMAGE.name,), (ORIGINAL, made), {made.name: folder / "made"}, "run 1",
                       "digest", again=False)


def test_each_server_gets_its_form_of_the_one_candidate(tmp_path: Path) -> None:
    serving, triton = publish(tmp_path)
    assert (serving.candidate, triton.candidate) == ("tensorrt/fp16", "tensorrt/fp16")
    assert serving.path == str(tmp_path / "serving/demo/1")
    assert triton.path == str(tmp_path / "serving/triton/demo/1")
    assert (tmp_path / "serving/demo/1/saved_model.pb").read_text() == "graft/saved_model.pb"
    assert (tmp_path / "serving/triton/demo/1/model.plan").read_text() == "serving_default/model.plan"
    assert "max_batch_size: 16" in (tmp_path / "serving/triton/demo/config.pbtxt").read_text()
    of_serving, of_triton = (json.loads(Path(p.path or "", "trt_pipeline.json").read_text()) for p in (serving, triton))
    assert (of_serving["kind"], of_triton["kind"]) == ("tensorrt-savedmodel", "tensorrt-plan")
    assert of_serving["built"] == of_triton["built"] == {"gpu": "A100", "tensorrt": "10.5.0.18"}
    assert of_serving["digest"] != of_triton["digest"]


def test_it_is_not_published_again_for_what_lies_beside_an_engine(tmp_path: Path) -> None:
    publish(tmp_path)
    (tmp_path / "made/serving_default/timing.cache").write_text("tactics of another build")
    assert [p.new for p in publish(tmp_path)] == [False, False]
