"""scikit-learn's 8x8 handwritten digits, split into what training sees and what it does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

LABELS_FILE = Path(__file__).with_name("labels.txt")
LABELS = tuple(LABELS_FILE.read_text(encoding="utf-8").split())
SIDE = 8


@dataclass(frozen=True)
class Digits:
    """`images` float32 (N, 8, 8, 1) in 0..1 and `labels` int64 (N,) in 0..9."""

    images: np.ndarray
    labels: np.ndarray


def load_split() -> tuple[Digits, Digits]:
    """The 1,347 training and the 450 held-out digits, each class in proportion."""
    data = load_digits()
    images = (data.images / 16.0).astype(np.float32)[..., np.newaxis]
    train_x, test_x, train_y, test_y = train_test_split(
        images, data.target.astype(np.int64), test_size=0.25, random_state=0, stratify=data.target
    )
    return Digits(train_x, train_y), Digits(test_x, test_y)
