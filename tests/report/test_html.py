"""The HTML report: one document that says everything, whatever is missing and whatever names hold."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import factory
import pytest

from trt_pipeline.publish import select
from trt_pipeline.report import write_html
from trt_pipeline.run_result import RunResult

_VOID = {"meta", "link", "br", "wbr"}


class Page(HTMLParser):
    """Text, tags and ids of a document; complains about tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        for name in ("href", "xlink:href", "aria-labelledby"):
            self.references += [r.lstrip("#") for r in (values.get(name) or "").split() if not r.startswith("data:")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.words += data


def written(result: RunResult, folder: Path) -> str:
    path = folder / "report.html"
    write_html(result, path)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(factory.mixed(), tmp_path_factory.mktemp("mixed"))


def test_is_one_document_that_loads_nothing(mixed: str) -> None:
    page = Page(mixed)
    assert not {"script", "img", "iframe", "object"} & set(page.tags)
    assert page.tags.count("html") == page.tags.count("main") == page.tags.count("h1") == 1
    addresses = re.findall(r'([\w:-]+)="https?://', mixed)
    assert set(addresses) == {"xmlns", "xmlns:xlink"}
    assert len(re.findall(r"https?://", mixed)) == len(addresses)
    assert "@import" not in mixed
    assert "url(http" not in mixed


def test_ids_are_unique_and_every_reference_has_its_id(mixed: str) -> None:
    page = Page(mixed)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)


def test_every_candidate_and_reason_is_there_and_escaped(mixed: str) -> None:
    words = Page(mixed).words
    for candidate in factory.mixed().candidates:
        assert candidate.name in words
        assert candidate.status in words
        assert candidate.reason in words
    assert html.escape("<script>") in mixed
    assert "<script>" not in mixed


def test_the_verdict_names_what_was_published_where_and_how_much_faster(mixed: str) -> None:
    verdict = html.unescape(re.findall(r'<p class="verdict">(.*?)</p>', mixed)[0])
    assert verdict.startswith("Published tensorflow/fp32 for tf-serving 2.14 as version 3 in serving/demo/3, "
                              "1.50 times as fast as the original (95 % interval 1.44 to 1.56)")
    assert "nothing was published for triton 25.06" in verdict


def test_the_verdict_says_when_nothing_beat_the_original(tmp_path: Path) -> None:
    text = written(factory.run(), tmp_path)
    assert ('<p class="verdict">Kept the original for tf-serving 2.14 as version 1 in serving/demo/1, because no '
            "candidate that it can load beats the original in p50 latency at batch size 1.</p>") in text


def test_the_verdict_of_a_sweep_names_the_fastest_that_passed(tmp_path: Path) -> None:
    rejected = factory.judged("tf-trt/int8", 9.0, 1.0, "wrong")
    candidates = (factory.ORIGINAL, factory.judged("tf-trt/fp16", 3.0, 1e-3), rejected)
    text = written(factory.run(candidates, ()), tmp_path)
    assert "this run only judged: the fastest candidate that passed is tf-trt/fp16, 3.00 times" in text
    assert "trt-pipeline sweep demo" in text
    assert "missed its gate" not in re.findall(r'<p class="verdict">(.*?)</p>', text)[0]
    gated = html.unescape(written(factory.run(candidates, (), gate=factory.GATE), tmp_path))
    assert f"by p50 latency at batch size 1; the run missed its gate: {factory.GATE.reason}." in gated


def test_the_plot_has_a_mark_for_each_candidate_that_was_timed_and_compared(mixed: str) -> None:
    svg = mixed[mixed.index("<svg"):mixed.index("</svg>")]
    assert len(re.findall(r'id="plot-mark-\d+"', svg)) == 4
    assert svg.count("fill: var(--surface)") == 2, "the two rejected ones are hollow"
    assert "<desc" in svg
    assert "#0102" not in svg
    for name in ("original", "tensorflow/fp32", "tensorflow/bf16"):
        assert re.search(rf"<text[^>]*>{name}</text>", svg)
    assert "Not timed or not comparable, so not drawn:\nonnxruntime/fp32, tf-trt/fp16" in mixed


def test_the_pareto_front_leaves_out_what_did_not_pass(mixed: str) -> None:
    marks = re.findall(r"<title>(.*?)</title>", mixed[mixed.index("<svg"):])
    front = [html.unescape(mark).rpartition(":")[0] for mark in marks if "on the Pareto front" in mark]
    assert front == ["original", "tensorflow/fp32"]


def test_marks_stand_where_their_ratio_puts_them(tmp_path: Path) -> None:
    """Both ran at different times on a machine that slowed down; only the ratio tells them apart."""
    slow = factory.judged("a/fp32", 4.0, 1e-3)
    assert slow.benchmark
    batches = tuple(b.model_copy(update={"candidate": factory.latency(40.0, 1)}) for b in slow.benchmark.batches)
    slow = slow.model_copy(update={"benchmark": slow.benchmark.model_copy(update={"batches": batches})})
    text = written(factory.run((factory.ORIGINAL, slow, factory.judged("b/fp32", 2.0, 1e-3))), tmp_path)
    assert "a/fp32: 12.5 ms, parity error 0.001, passed its gate, on the Pareto front" in text
    assert "<title>b/fp32: 25.0 ms, parity error 0.001, passed its gate</title>" in text


@pytest.mark.filterwarnings("error")
def test_an_unknown_character_or_a_formula_in_a_name_draws_as_it_is(tmp_path: Path) -> None:
    text = written(factory.run((factory.ORIGINAL, factory.judged("모델/$x^2$", 2.0, 1e-3))), tmp_path)
    assert re.search(r"<text[^>]*>모델/\$x\^2\$</text>", text)


@pytest.mark.parametrize("candidates", [
    (factory.candidate("tf-trt/fp16", "failed", "convert: out of memory"),),
    (factory.candidate("original", verdict=factory.verdict(0.0)),),
    (factory.candidate("original", benchmark=factory.benchmark(1.0)),),
    (factory.candidate("original", verdict=factory.verdict(0.0), benchmark=factory.benchmark(1.0, sizes=(32,))),),
    (factory.ORIGINAL, factory.judged("a/fp32", 900.0, 0.0), factory.judged("b/fp32", 0.001, 1e30, "wrong")),
    (),
], ids=["nothing judged", "not timed", "not compared", "fixed batch", "far apart", "no candidate"])
def test_what_is_missing_is_a_dash_and_never_the_end(candidates: tuple[factory.CandidateResult, ...],
                                                     tmp_path: Path) -> None:
    text = written(factory.run(candidates), tmp_path)
    Page(text)
    assert not re.search(r">\s*(None|nan)\s*<", text)


def test_every_corner_the_noise_the_stages_and_the_digests_are_there(mixed: str) -> None:
    words = Page(mixed).words
    for expected in ("shortest + longest", "no float64 run: it uses look-up tables", "2.6e-07", "kept from before",
                     "Some CPU @ 2.5 GHz", "not installed", "9bcb0881" * 8, "164364ed" * 8,
                     "/opt/tf217/bin/python: python 3.10.13, tensorflow 2.17.1",
                     "trt-pipeline optimize demo", "batch max [0..7], sample 3, index [8]: expected 3540, got 4259"):
        assert expected in words, expected


def test_tables_have_captions_scopes_and_a_container_that_scrolls(mixed: str) -> None:
    tags = Page(mixed).tags
    assert tags.count("table") == tags.count("caption") == mixed.count('<div class="scroll" role="region" tabindex="0"')
    assert not re.search(r"<th(?![^>]*scope=)[ >]", mixed)
    assert "prefers-color-scheme: dark" in mixed
    assert ":focus-visible" in mixed


def test_a_config_in_the_config_folder_is_run_through_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/demo.yaml").write_text("name: demo\nmodel: models/demo/1\nsamples: {validation: a.npz}\n")
    from trt_pipeline.config import loader
    config = loader.load(Path("configs/demo.yaml")).model_dump(mode="json")
    assert "<code>make optimize MODEL=demo</code>" in written(factory.run(config=config), tmp_path)
    other = config | {"max_batch_size": 5}
    assert "<code>trt-pipeline optimize demo</code>" in written(factory.run(config=other), tmp_path)


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_html(factory.run(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_the_same_result_gives_the_same_file(tmp_path: Path, mixed: str) -> None:
    assert written(factory.mixed(), tmp_path) == mixed


def test_importing_the_report_imports_no_matplotlib() -> None:
    code = "import sys, trt_pipeline.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_matplotlib_settings_of_the_caller_stay_as_they_were(tmp_path: Path) -> None:
    import matplotlib
    with matplotlib.rc_context({"svg.fonttype": "path", "font.size": 31.0}):
        before = dict(matplotlib.rcParams)
        text = written(factory.mixed(), tmp_path)
        assert dict(matplotlib.rcParams) == before
    assert "<text" in text
    assert "font-size: 31px" not in text


def test_a_published_candidate_is_marked_in_the_table(mixed: str) -> None:
    assert mixed.count('<span class="tag">published</span>') == 1
    assert select.ORIGINAL in mixed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(factory.whole(), tmp_path_factory.mktemp("whole"))


def section(text: str, name: str) -> str:
    """The section that is called ``name``."""
    found = re.search(rf'<section aria-labelledby="{name}">.*?</section>', text, re.DOTALL)
    assert found, name
    return html.unescape(" ".join(found[0].split()))


def test_every_section_is_there_and_listed(whole: str, mixed: str) -> None:
    page = Page(whole)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    listed = re.findall(r'<li><a href="#(.*?)">', whole)
    assert listed == re.findall(r'<section aria-labelledby="(.*?)">', whole)
    left_out = set(listed) - set(re.findall(r'<section aria-labelledby="(.*?)">', mixed))
    assert left_out == {"gate", "metrics", "coverage", "islands", "calibration"}


def test_worst_samples_are_decoded_and_their_differences_marked(whole: str) -> None:
    parity = section(whole, "parity")
    marked = [re.sub("<.*?>", "", mark) for mark in re.findall(r"<mark><span.*?</mark>", parity)]
    for words in ("a été", "hier", "était", "virginica", re.sub("<.*?>", "", factory.HOSTILE)):
        assert f"[differs: {words}]" in marked
    for words in ("the old bridge was closed to traffic yesterday", "3.2 times its bound", "[0, 1]</th>",
                  "tokens, sample 17", "4, 81, 992 (int64 [3])", "scores, whole batch"):
        assert words in parity, words


def test_distributions_stand_beside_the_original_at_each_batch_size(whole: str) -> None:
    found = section(whole, "distributions")
    assert re.findall(r"<h3>(.*?)</h3>", found) == ["Batch size 1", "Batch size 8"]
    assert found.count("<details open>") == 1
    assert found.count('-original"') == found.count('-candidate"') == found.count("<svg") == 11
    assert "tensorflow/fp32: fastest 22.7 ms, p50 33.3 ms, p90 40.0 ms, slowest 49.0 ms; the original: fastest" in found


def test_a_run_of_an_older_version_has_percentiles_only(tmp_path: Path) -> None:
    known = factory.judged("a/fp32", 2.0, 0.0)
    assert known.benchmark
    none = {"quantiles": ()}
    batches = tuple(batch.model_copy(update={"candidate": batch.candidate.model_copy(update=none),
                                             "original": batch.original.model_copy(update=none)})
                    for batch in known.benchmark.batches)
    old = known.model_copy(update={"benchmark": known.benchmark.model_copy(update={"batches": batches})})
    found = section(written(factory.run((old,)), tmp_path), "distributions")
    assert "of a version that kept no distributions" in found
    assert "25.0 ms" in found


def test_coverage_precision_and_memory_are_bars_with_words(whole: str) -> None:
    found = section(whole, "coverage")
    assert "Operations in TensorRT: 75.71 % (318 of 420, 1 engine)" in found
    assert "Weighted operations in int8: 75 % (3 of 4)" in found
    assert re.findall(r'style="width:(.*?)%"', found) == ["75.7", "97.6", "75.0"]
    for words in ("While x1 (no converter for it)", "decoder/logits/MatMul: an island"):
        assert words in found
    memory = section(whole, "memory")
    assert "310 MB" in memory
    assert 'style="width:100.0%"' in memory


def test_calibration_shows_what_the_ranges_leave_out(whole: str) -> None:
    found = section(whole, "calibration")
    assert "By the method entropy on 512 samples: 204 tensors measured." in found
    assert "4.6 % outside" in found
    assert "0.0043 % outside" in found
    assert len(re.findall(r'id="histogram-\d-clipped"', found)) == 2
    assert len(re.findall(r'id="histogram-\d-covered"', found)) == 3


def test_early_stopping_metrics_and_the_gate_are_told(whole: str) -> None:
    assert "Not measured further: dominated by tensorflow/fp32" in section(whole, "candidates")
    assert re.search(r"27\.31</td>\s*<td class=\"number\">0\.512", section(whole, "metrics"))
    for words in ("speedup is 1.5", "pending", "no candidate could be chosen", "3.4e-08",
                  "About the comparison with the baseline:", "tf-trt/fp16: failed"):
        assert words in section(whole, "gate"), words


def test_provenance_says_how_to_verify(whole: str) -> None:
    assert "<code>trt-pipeline verify serving/demo/3</code>" in section(whole, "provenance")
