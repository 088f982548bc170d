"""A metric of a run: a checked function of one signature's outputs and labels, ready for workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline import digest
from trt_pipeline.config.schema import Config
from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen
from trt_pipeline.metrics import answers, function, labels, packed
from trt_pipeline.metrics.function import Function
from trt_pipeline.parity.cases import Case
from trt_pipeline.samples.store import Samples
from trt_pipeline.suggest import did_you_mean

Array = npt.NDArray[Any]


class Metric(Frozen):
    """What a worker computes a metric by."""

    name: str
    signature: str
    """Whose outputs it is given."""
    function: str
    """As `function.load` takes it."""
    labels: Path | None
    """As `labels.load` takes it; None where it is given None for labels."""
    paths: tuple[str, ...]
    """Where its modules are looked for."""
    digest: str
    """Of its code and its labels: what its result depends on beside the outputs."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What was written for its workers: what another machine has to have, too."""
        pickled = [Path(self.function)] if self.function.endswith(packed.SUFFIX) else []
        return (*pickled, *([self.labels] if self.labels else []))

    def moved(self, folder: Path) -> Metric:
        """This metric where its files lie in ``folder``."""
        pickled = self.function.endswith(packed.SUFFIX)
        return self.model_copy(update={
            "function": str(folder / Path(self.function).name) if pickled else self.function,
            "labels": folder / self.labels.name if self.labels else None})

    def compute(self, folder: Path, cases: Sequence[Case]) -> float:
        """Its value on the outputs in ``folder`` (`answers.read`), in this process; may be NaN or infinite.

        Raises:
            ConfigError: there is no such function any more, or it returned no single number.
        """
        sys.path += [path for path in self.paths if path not in sys.path]
        computed = function.load(self.function)(answers.read(folder, cases, self.signature),
                                                labels.load(self.labels) if self.labels else None)
        return _number(self.name, computed)


def plan(config: Config, signatures: Sequence[str], samples: Mapping[str, Path], folder: Path,
         functions: Mapping[str, str | Function] | None = None, given_labels: Any = None) -> tuple[Metric, ...]:
    """The metrics of a run, checked before anything is worked for.

    Args:
        signatures: those that are judged.
        samples: signature -> the folder of its validation samples.
        folder: gets the files that workers need; it has to stay until the last of them is done.
        functions: metrics besides the config's: name -> a function, or as the config has it.
        given_labels: instead of the config's: a file's path, or labels as `labels.read` returns them; of several
            signatures, a mapping from signature to those.

    Raises:
        ConfigError: a function cannot be found, it is not clear whose outputs it is for, or the gate bounds a metric
            that is none.
        SamplesError: labels cannot be read, or are not one for each sample.
    """
    wanted: dict[str, str | Function] = {**config.metrics, **(functions or {})}
    for name in config.gate.metrics:
        if name not in wanted:
            raise ConfigError(f"the gate bounds the metric '{name}', which is none: there are "
                              f"{', '.join(wanted) or 'none'}{did_you_mean(name, wanted)}; add it to 'metrics'")
    given = config.labels if given_labels is None else given_labels
    own = {name: labels.of_signature(given, name, signatures) for name in signatures}
    labelled: dict[str, tuple[Path, str]] = {}
    found = []
    for name, code in wanted.items():
        signature = _signature(name, signatures, [one for one in signatures if own[one] is not None])
        if own[signature] is not None and signature not in labelled:
            count = max(len(Samples(samples[signature])), 1)  # a signature without inputs is run once
            labelled[signature] = labels.pack(own[signature], signature, count, folder)
        source, known = function.pack(name, code, folder)
        file, content = labelled.get(signature, (None, ""))
        found.append(Metric(name=name, signature=signature, function=source, labels=file,
                            paths=(os.getcwd(), *function.search_path(source)),
                            digest=digest.of_value([signature, known, content])))
    return tuple(found)


def _signature(metric: str, signatures: Sequence[str], labelled: Sequence[str]) -> str:
    """Whose outputs ``metric`` is of: the signature in its name, the only one with labels, or the only one."""
    qualified = [name for name in signatures if metric.startswith(f"{name}.")]
    if qualified:
        return max(qualified, key=len)
    if len(signatures) == 1 or len(labelled) == 1:
        return [*labelled, *signatures][0]
    raise ConfigError(f"metric {metric} may be of {', '.join(signatures)}: call it SIGNATURE.{metric}, or give labels "
                      "for one of them only")


def _number(metric: str, value: Any) -> float:
    array = np.asarray(value) if isinstance(value, (bool, int, float, np.generic, np.ndarray)) else None
    if array is None or array.ndim or array.dtype.kind not in "biuf":
        what = f"an array of shape {list(array.shape)}" if array is not None else f"a value of {type(value)}"
        raise ConfigError(f"metric {metric} returned {what}: return one number")
    return float(array)
