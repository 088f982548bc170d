"""From sentence pairs to an evaluated SavedModel:

python -m models.translator.train --direction enko --out models/enko/1
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import get_args

import numpy as np
import tensorflow as tf

from models.translator.batching import encode_pairs
from models.translator.corpus import Direction, read_pairs, split_pairs
from models.translator.evaluate import evaluate
from models.translator.export import export
from models.translator.tokenizer import train_tokenizer
from models.translator.training import Recipe, train
from models.translator.transformer import Size, Transformer

STEPS: dict[Direction, int] = {"enko": 4500, "koen": 4500}


def train_translator(direction: Direction, out: Path, recipe: Recipe) -> None:
    """Corpus, tokenizer, training, export, evaluation; prints what a model card needs."""
    tf.random.set_seed(recipe.seed)
    splits = split_pairs(read_pairs())
    print("pairs:", {name: len(pairs) for name, pairs in splits.items()})
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer_file = Path(scratch) / "spm.model"
        tokenizer = train_tokenizer(splits["train"], tokenizer_file)
        training = encode_pairs(splits["train"], tokenizer, direction)
        dev = encode_pairs(splits["dev"], tokenizer, direction)
        model = Transformer(Size(tokenizer.size))
        parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
        print(f"parameters: {parameters:,}; examples: {len(training)} train, {len(dev)} dev", flush=True)
        started = time.process_time()
        train(model, training, dev, recipe)
        print(f"training took {(time.process_time() - started) / 60:.1f} CPU minutes")
        export(model, tokenizer_file, out)
    print(evaluate(out, direction, samples=40))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--direction", choices=get_args(Direction), required=True)
    parser.add_argument("--out", type=Path, required=True, help="the SavedModel directory to write")
    parser.add_argument("--steps", type=int, help="batches to train on (default: as in the model card)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    # One thread sums in one order, so that a run can be repeated.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    recipe = Recipe(steps=arguments.steps or STEPS[arguments.direction], seed=arguments.seed)
    train_translator(arguments.direction, arguments.out, recipe)


if __name__ == "__main__":
    main()
