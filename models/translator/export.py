"""Writes a trained Transformer as a SavedModel with one signature, `translate`."""

from __future__ import annotations

import shutil
from pathlib import Path

import tensorflow as tf

from models.translator.beam_search import beam_search
from models.translator.tokenizer import TOKENIZER_ASSET
from models.translator.transformer import Transformer

SIGNATURE = "translate"


def export(model: Transformer, tokenizer_file: Path, out: Path) -> None:
    """Saves `model` under `out`, with the tokenizer that its ids come from."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, name="input")])
    def translate(ids: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs, scores = beam_search(model, tf.cast(ids, tf.int32))
        return {"outputs": outputs, "scores": scores}

    # `translate` is no attribute of the module, so the signature is the only function saved.
    tf.saved_model.save(
        model,
        str(out),
        signatures={SIGNATURE: translate},
        options=tf.saved_model.SaveOptions(save_debug_info=False, experimental_custom_gradients=False),
    )
    asset = out / TOKENIZER_ASSET
    asset.parent.mkdir(exist_ok=True)
    shutil.copyfile(tokenizer_file, asset)
