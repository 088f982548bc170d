"""scikit-learn's irises, split into what training sees and what it does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

FEATURES = ("SepalLength", "SepalWidth", "PetalLength", "PetalWidth")
SPECIES = ("setosa", "versicolor", "virginica")


@dataclass(frozen=True)
class Flowers:
    """`lengths` float32 (N, 4) in cm, as FEATURES; `species` int64 (N,), places in SPECIES."""

    lengths: np.ndarray
    species: np.ndarray

    def features(self) -> dict[str, np.ndarray]:
        """Feature -> float32 (N,)."""
        return {name: self.lengths[:, place] for place, name in enumerate(FEATURES)}

    def names(self) -> np.ndarray:
        """The species of each by name, (N,)."""
        return np.array(SPECIES)[self.species]


def load_split() -> tuple[Flowers, Flowers]:
    """The 104 training and the 45 held-out flowers, each species in proportion.

    Two of scikit-learn's 150 are the same in all four lengths; only the first of them is here.
    """
    data = load_iris()
    kept = np.sort(np.unique(data.data, axis=0, return_index=True)[1])
    lengths, species = data.data[kept].astype(np.float32), data.target[kept].astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        lengths, species, test_size=45, random_state=0, stratify=species)
    return Flowers(train_x, train_y), Flowers(test_x, test_y)
