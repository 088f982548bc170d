"""The committed translators keep their contract, and a sentence's translation is its own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from models.translator.beam_search import beam_search, length_limits
from models.translator.corpus import Direction, Pair, Split, normalize, read_pairs, split_of, split_pairs
from models.translator.evaluate import Translator, score
from models.translator.samples import MAX_PIECES, write_samples
from models.translator.tokenizer import EOS, PAD, TOKENIZER_ASSET, pad_rows
from models.translator.training import loss
from models.translator.transformer import Size, Transformer

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "calibration_data"
DIRECTIONS: tuple[Direction, ...] = ("enko", "koen")

Translators = dict[Direction, Translator]
Splits = dict[Split, list[Pair]]


def saved_model(direction: Direction) -> Path:
    return ROOT / "models" / direction / "1"


@pytest.fixture(scope="module")
def translators() -> Translators:
    return {direction: Translator(saved_model(direction)) for direction in DIRECTIONS}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return split_pairs(read_pairs())


def call(translator: Translator, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The signature itself: ids int64 (N, T) -> outputs, scores."""
    result = translator.signature(input=tf.constant(ids, tf.int64))
    return result["outputs"].numpy(), result["scores"].numpy()


def tokens(output: np.ndarray) -> list[int]:
    """A row of outputs without the padding on its right."""
    return np.trim_zeros(output, "b").tolist()


# The contract of the SavedModels.


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_translate_is_the_only_signature(translators: Translators, direction: Direction) -> None:
    assert list(translators[direction].loaded.signatures) == ["translate"]
    signature = translators[direction].signature
    inputs = signature.structured_input_signature[1]
    assert {key: (spec.dtype, spec.shape.as_list()) for key, spec in inputs.items()} == {
        "input": (tf.int64, [None, None])
    }
    outputs = signature.structured_outputs
    assert {key: (spec.dtype, spec.shape.as_list()) for key, spec in outputs.items()} == {
        "outputs": (tf.int32, [None, None]),
        "scores": (tf.float32, [None]),
    }


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_savedmodel_is_small_and_holds_only_inference(direction: Direction) -> None:
    folder = saved_model(direction)
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 8_000_000
    graph = (
        saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        .meta_graphs[0]
        .graph_def
    )
    operations = {node.op for function in graph.library.function for node in function.node_def}
    assert "While" in operations or "StatelessWhile" in operations
    assert not {name for name in operations if re.search("PyFunc|Apply|Random|Grad", name)}


def test_both_directions_speak_the_same_vocabulary() -> None:
    enko, koen = ((saved_model(direction) / TOKENIZER_ASSET).read_bytes() for direction in DIRECTIONS)
    assert enko == koen


# What they say.


def test_known_english_sentences_become_korean(translators: Translators) -> None:
    for translation in translators["enko"](["Delete user", "File Path", "Add a new tab", "Save"]):
        assert re.search("[가-힣]", translation), translation


def test_known_korean_sentences_become_english(translators: Translators) -> None:
    for translation in translators["koen"](["사용자 삭제", "파일 경로", "저장", "비밀번호를 입력하세요."]):
        assert re.search("[A-Za-z]", translation), translation


@pytest.mark.parametrize(("direction", "floor"), [("enko", 38.0), ("koen", 45.0)])
def test_held_out_strings_are_translated_well_enough(
    translators: Translators, splits: Splits, direction: Direction, floor: float
) -> None:
    pairs = splits["test"][::8][:100]
    translations = translators[direction]([pair.source(direction) for pair in pairs])
    assert score(translations, [pair.target(direction) for pair in pairs]).chrf > floor


# A sentence's translation is its own.


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_tokens_do_not_depend_on_the_batch_or_on_padding(
    translators: Translators, splits: Splits, direction: Direction
) -> None:
    translator = translators[direction]
    rows = [translator.tokenizer.encode(pair.source(direction)) for pair in splits["test"][5::37]]
    assert len({len(row) for row in rows}) > 8  # short and long ones share the batch
    together, together_scores = call(translator, pad_rows(rows))
    wide = np.pad(pad_rows(rows), [(0, 0), (0, 13)], constant_values=PAD)
    padded, padded_scores = call(translator, wide)
    assert [tokens(row) for row in padded] == [tokens(row) for row in together]
    np.testing.assert_allclose(padded_scores, together_scores, rtol=1e-4, atol=1e-4)
    for row, expected, expected_score in zip(rows, together, together_scores, strict=True):
        alone, alone_score = call(translator, np.array([row]))
        assert tokens(alone[0]) == tokens(expected)
        np.testing.assert_allclose(alone_score, [expected_score], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_finished_row_only_pads_while_others_go_on(
    translators: Translators, splits: Splits, direction: Direction
) -> None:
    translator = translators[direction]
    texts = [pair.source(direction) for pair in splits["test"][:16]]
    outputs, _ = call(translator, pad_rows([translator.tokenizer.encode(text) for text in texts]))
    lengths = [len(tokens(row)) for row in outputs]
    assert len(set(lengths)) > 3
    for row, length in zip(outputs, lengths, strict=True):
        assert EOS not in row[: length - 1] and PAD not in row[:length]


def test_a_row_of_padding_gives_padding_and_disturbs_nobody(translators: Translators) -> None:
    translator = translators["enko"]
    row = translator.tokenizer.encode("Delete user")
    alone, _ = call(translator, np.array([row]))
    outputs, scores = call(translator, pad_rows([row, []]))
    assert tokens(outputs[0]) == tokens(alone[0])
    assert tokens(outputs[1]) == [] and np.isfinite(scores).all()


def test_an_empty_batch_is_answered_with_an_empty_one(translators: Translators) -> None:
    outputs, scores = call(translators["enko"], np.zeros((0, 4), np.int64))
    assert outputs.shape[0] == 0 and scores.shape == (0,)


# The search and the loss, on a random model.


@pytest.fixture(scope="module")
def random_model() -> Transformer:
    """Opinionated and in no hurry to end, so that its searches are long and its beams change places."""
    tf.random.set_seed(3)
    model = Transformer(Size(vocabulary=17, width=8, heads=2, hidden=16, layers=2))
    for variable in model.trainable_variables:
        variable.assign(2.0 * variable)
    model.embedding[EOS].assign(tf.zeros([8]))
    return model


def test_scores_with_cached_keys_are_those_of_the_whole_sentence(random_model: Transformer) -> None:
    random = np.random.default_rng(0)
    rows = [[*random.integers(3, 17, size=length).tolist(), EOS] for length in (1, 2, 3, 5, 8, 8, 9, 9)]
    source = tf.constant(pad_rows(rows))
    outputs, scores = beam_search(random_model, source)
    hidden = random_model.decode(source, outputs, dropout=0.0)
    log_probs = tf.nn.log_softmax(tf.einsum("ntw,vw->ntv", hidden, random_model.embedding))
    chosen = tf.gather(log_probs, outputs, batch_dims=2).numpy()
    lengths = [len(tokens(row)) for row in outputs.numpy()]
    assert sum(length > 5 for length in lengths) >= 3
    for row, length, score_found in zip(chosen, lengths, scores.numpy(), strict=True):
        assert row[:length].sum() / ((5 + length) / 6) ** 0.6 == pytest.approx(score_found, rel=1e-4)


def test_a_row_that_never_ends_stops_at_its_own_limit() -> None:
    tf.random.set_seed(3)
    model = Transformer(Size(vocabulary=17, width=8, heads=2, hidden=16, layers=1))
    # A decoder that always says the same, and never likes EOS.
    model.norm_decoder.scale.assign(tf.zeros([8]))
    model.norm_decoder.offset.assign(tf.ones([8]))
    model.embedding[EOS].assign(-tf.ones([8]))
    source = tf.constant([[5, 6, 7, 8, 9, EOS], [9, EOS, PAD, PAD, PAD, PAD]])
    outputs, _ = beam_search(model, source)
    limits = length_limits(source).numpy().tolist()
    assert limits[0] > limits[1] > 0
    assert [len(tokens(row)) for row in outputs.numpy()] == limits


def test_label_smoothing_is_a_mix_with_the_uniform_distribution(random_model: Transformer) -> None:
    source, target = tf.constant([[5, 6, EOS]]), tf.constant([[7, 8, 9, EOS]])
    smoothed, nll = loss(random_model, source, target, dropout=0.0, smoothing=0.1)
    hidden = random_model.decode(source, target, dropout=0.0)
    log_probs = tf.nn.log_softmax(tf.einsum("ntw,vw->ntv", hidden, random_model.embedding))
    right = tf.gather(log_probs, target, batch_dims=2)
    assert float(nll) == pytest.approx(-float(tf.reduce_mean(right)), rel=1e-4)
    expected = -0.9 * float(tf.reduce_mean(right)) - 0.1 * float(tf.reduce_mean(log_probs))
    assert float(smoothed) == pytest.approx(expected, rel=1e-4)


# The corpus.


def test_no_string_of_one_split_is_in_another(splits: Splits) -> None:
    assert {name: bool(pairs) for name, pairs in splits.items()} == {"train": True, "dev": True, "test": True}
    for language in ("english", "korean"):
        strings = {
            name: {normalize(getattr(pair, language)) for pair in pairs} for name, pairs in splits.items()
        }
        assert not strings["train"] & strings["test"]
        assert not strings["train"] & strings["dev"]
        assert not strings["dev"] & strings["test"]


def test_case_and_punctuation_do_not_change_the_split() -> None:
    assert normalize("  Delete USER…") == normalize("delete user")
    for pair in read_pairs()[:200]:
        assert split_of(pair.english.upper() + " !") == split_of(pair.english)


# The samples.


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_samples_are_sentences_of_all_lengths(direction: Direction) -> None:
    for name, count in ((direction, 256), (f"{direction}_validation", 200)):
        ids = np.load(SAMPLES / f"{name}.npz")["input"]
        lengths = (ids != PAD).sum(1)
        assert ids.dtype == np.int64 and ids.shape == (count, lengths.max())
        assert lengths.min() == 2 and 40 <= lengths.max() <= MAX_PIECES
        for row, length in zip(ids, lengths, strict=True):
            assert row[length - 1] == EOS and PAD not in row[:length] and EOS not in row[: length - 1]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_calibration_and_validation_share_no_sentence(direction: Direction) -> None:
    calibration, validation = (
        {tuple(np.trim_zeros(row, "b")) for row in np.load(SAMPLES / f"{name}.npz")["input"]}
        for name in (direction, f"{direction}_validation")
    )
    assert len(calibration) == 256 and len(validation) == 200
    assert not calibration & validation


def test_the_committed_samples_are_what_the_recipe_writes(tmp_path: Path) -> None:
    write_samples(tmp_path)
    written = sorted(tmp_path.iterdir())
    assert len(written) == 4
    for file in written:
        # Zip headers differ between Python versions; what they hold must not.
        np.testing.assert_array_equal(np.load(file)["input"], np.load(SAMPLES / file.name)["input"], file.name)
