"""What each call of TensorFlow Serving means, on arrays and serialized Examples: shared by gRPC and REST."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trt_pipeline.backends.base import Array
from trt_pipeline.model.contract import CLASSIFY_METHOD, DEFAULT_SIGNATURE, REGRESS_METHOD, SignatureContract
from trt_pipeline.serve.refusal import Code, RefusalError, invalid

if TYPE_CHECKING:
    from trt_pipeline.serve.batching import Batching
    from trt_pipeline.serve.metrics import Metrics
    from trt_pipeline.serve.models_config import ServerConfig
    from trt_pipeline.serve.servable import Servable
    from trt_pipeline.serve.store import ModelStore, Spec, VersionState

_log = logging.getLogger(__name__)
_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"


class Classes(NamedTuple):
    """What classify answers: labels as bytes and scores as float32, both [batch, classes]; one may be missing."""

    labels: Array | None
    scores: Array | None

    def rows(self) -> Iterator[list[tuple[str, float]]]:
        """Label and score of each class, for each Example; what is missing is empty or 0."""
        shape = next(array.shape for array in self if array is not None)
        labels = self.labels.tolist() if self.labels is not None else [[b""] * shape[1]] * shape[0]
        scores = self.scores.tolist() if self.scores is not None else [[0.0] * shape[1]] * shape[0]
        for texts, numbers in zip(labels, scores, strict=True):
            yield [(_text(text), number) for text, number in zip(texts, numbers, strict=True)]


class Task(NamedTuple):
    """One part of a multi-inference request."""

    model: str
    signature: str
    method: str


class Core:
    """The models, how they are run, and what is counted of it.

    Every call that runs a model takes a `Servable` that the caller holds through `lease`, so that what is read
    of its signatures and what it answers are of one version. All raise RefusalError in TensorFlow Serving's words.
    """

    def __init__(self, store: ModelStore, batching: Batching, metrics: Metrics) -> None:
        self.store, self.batching, self.metrics = store, batching, metrics

    def lease(self, spec: Spec) -> AbstractContextManager[Servable]:
        """The version that ``spec`` names, kept loaded while the context lasts."""
        return self.store.lease(spec)

    async def predict(self, servable: Servable, name: str, feeds: Mapping[str, Array],
                      output_filter: Sequence[str] = ()) -> dict[str, Array]:
        """The outputs, all or those of ``output_filter``, in the order of their names."""
        signature = predict_signature(servable, name)
        wanted = _chosen(signature, output_filter)
        outputs = await self.batching.infer(servable, signature.name, feeds)
        return {output: outputs[output] for output in wanted}

    async def classify(self, servable: Servable, name: str, examples: Sequence[bytes]) -> Classes:
        """The classes and scores of each of the serialized ``examples``."""
        signature = _examples_signature(servable, name)
        check_classify(servable, signature)
        return _classes(await self._run(servable, signature, examples, "Classify"), len(examples))

    async def regress(self, servable: Servable, name: str, examples: Sequence[bytes]) -> Array:
        """A float32 for each of the serialized ``examples``."""
        signature = _examples_signature(servable, name)
        check_regress(servable, signature)
        return _values(await self._run(servable, signature, examples, "Regress"), len(examples))

    async def multi_inference(self, servable: Servable, tasks: Sequence[Task],
                              examples: Sequence[bytes]) -> list[Classes | Array]:
        """Classify and regress on the same Examples, an answer for each task."""
        checked = _check_tasks(servable, tasks)
        results: list[Classes | Array] = []
        for task, signature in zip(tasks, checked, strict=True):
            outputs = await self._run(servable, signature, examples, "MultiInference")
            results.append(_classes(outputs, len(examples)) if task.method == CLASSIFY_METHOD else
                           _values(outputs, len(examples)))
        return results

    def states(self, model: str, version: int | None = None) -> list[VersionState]:
        """Every version of ``model`` that the server knows, newest first, or one of them."""
        return self.store.states(model, version)

    def reload(self, config: ServerConfig) -> None:
        """Serve what ``config`` says; blocks until that is available."""
        self.store.reload(config)

    @contextmanager
    def observed(self, model: str, api: str, entrypoint: str) -> Iterator[None]:
        """Count a request and its time.

        Raises:
            RefusalError: what went wrong inside; what is not the client's doing is logged, and told as INTERNAL.
        """
        begin, code = time.perf_counter(), 0
        try:
            yield
        except RefusalError as refused:
            code = refused.code
            raise
        except MemoryError:
            code = Code.RESOURCE_EXHAUSTED
            raise RefusalError(code, "not enough memory for this request") from None
        except Exception:
            _log.exception("%s %s of %s failed", entrypoint, api, model)
            code = Code.INTERNAL
            raise RefusalError(code, "internal error: see the server's log") from None
        except asyncio.CancelledError:  # by the client
            code = Code.CANCELLED
            raise
        finally:
            self.metrics.observe(model, api, entrypoint, time.perf_counter() - begin, code)

    async def _run(self, servable: Servable, signature: SignatureContract, examples: Sequence[bytes],
                   api: str) -> dict[str, Array]:
        if not examples:
            raise invalid("Input is empty.")
        return await self.batching.infer(servable, signature.name, {_INPUTS: np.array(examples, object)}, api)


def predict_signature(servable: Servable, name: str) -> SignatureContract:
    """The signature that predict asks for; none named is `serving_default`."""
    name = name or DEFAULT_SIGNATURE
    if name not in servable.contract.signatures:
        raise RefusalError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return servable.contract.signatures[name]


def check_classify(servable: Servable, signature: SignatureContract) -> None:
    """That ``signature`` can classify: one input `inputs`, outputs `classes` and/or `scores`."""
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    definition = servable.signature_defs[signature.name]
    if _INPUTS not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {definition}")
    if not signature.outputs.keys() & {_CLASSES, _SCORES}:
        raise invalid(f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or '
                       f'"{_SCORES}". Signature was: {definition}')


def check_regress(servable: Servable, signature: SignatureContract) -> None:
    """That ``signature`` can regress: one input `inputs`, one output `outputs`."""
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    definition = servable.signature_defs[signature.name]
    if _INPUTS not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {definition}")
    if _OUTPUTS not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {definition}")


def _check_tasks(servable: Servable, tasks: Sequence[Task]) -> list[SignatureContract]:
    found: dict[str, SignatureContract] = {}
    for task in tasks:
        if not task.model:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.model != tasks[0].model:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.signature or DEFAULT_SIGNATURE
        if name in found:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        if name not in servable.contract.signatures:
            raise invalid(f"Requested signature not found in model graph: {name}")
        found[name] = servable.contract.signatures[name]
        if task.method == CLASSIFY_METHOD:
            check_classify(servable, found[name])
        elif task.method == REGRESS_METHOD:
            check_regress(servable, found[name])
        else:
            raise RefusalError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method}")
    return list(found.values())


def _examples_signature(servable: Servable, name: str) -> SignatureContract:
    name = name or DEFAULT_SIGNATURE
    if name not in servable.contract.signatures:
        raise invalid(f"No signature was found with the name: {name}")
    return servable.contract.signatures[name]


def _chosen(signature: SignatureContract, output_filter: Sequence[str]) -> list[str]:
    known = sorted(signature.outputs)
    seen = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                           f"{_set(known)}.")
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return list(output_filter) or known


def _classes(outputs: Mapping[str, Array], count: int) -> Classes:
    labels, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    for name, array, kind in ((_CLASSES, labels, "DT_STRING"), (_SCORES, scores, "DT_FLOAT")):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        if _type_name(array) != kind:
            raise invalid(f"Expected {name} Tensor of {kind}. Got: {_type_name(array)}")
        if len(array) != count:
            raise invalid(f"Expected {name} output batch size of {count}. Got: {len(array)}")
    if labels is not None and scores is not None and labels.shape[1] != scores.shape[1]:
        raise invalid("Tensors class and score should match in dim_size(1). Got "
                       f"{labels.shape[1]} vs. {scores.shape[1]}")
    return Classes(labels, scores)


def _values(outputs: Mapping[str, Array], count: int) -> Array:
    values = outputs[_OUTPUTS]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid("Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
                       f"{_shape(values)}")
    if len(values) != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {len(values)}")
    if values.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_type_name(values)}")
    return values.reshape(count)


def _text(label: bytes | str) -> str:
    return label if isinstance(label, str) else label.decode(errors="replace")


def _type_name(array: Array) -> str:
    if array.dtype.kind in "OSU":
        return "DT_STRING"
    names = {"float16": "HALF", "float32": "FLOAT", "float64": "DOUBLE"}
    return "DT_" + names.get(array.dtype.name, array.dtype.name.upper())


def _shape(array: Array) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
