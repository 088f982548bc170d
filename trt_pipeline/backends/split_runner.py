"""Run signatures whose numeric core is an ONNX file or an engine: TensorFlow before, the core, TensorFlow after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from trt_pipeline.backends import onnxruntime
from trt_pipeline.backends.base import Array, Request, Runner, as_array
from trt_pipeline.conversion.split.host import AFTER, BEFORE, HOST, argument
from trt_pipeline.engine import narrowing, recipe
from trt_pipeline.errors import InputError
from trt_pipeline.model.contract import Contract

# How ONNX Runtime names the types that an edge of an engine can have.
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64",
           "tensor(int32)": "int32", "tensor(int64)": "int64", "tensor(int8)": "int8", "tensor(uint8)": "uint8",
           "tensor(bool)": "bool"}


class Core(Protocol):
    """The numeric part of a signature, loaded while it is active."""

    def activate(self) -> None: ...

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, in their own dtypes; ``feeds`` may hold more than the core takes."""
        ...

    def deactivate(self) -> None: ...


class OnnxCore:
    """A core in ONNX Runtime, on the CPU.

    Args:
        file: the ONNX file.
        narrowed: inputs and outputs that the file has in another dtype, and their own.
    """

    def __init__(self, file: Path, narrowed: Mapping[str, str], threads: int | None = None) -> None:
        self.file, self.narrowed, self.threads = file, narrowed, threads
        self._session: Any = None

    def activate(self) -> None:
        self._session = onnxruntime.session(self.file, self.threads, ["CPUExecutionProvider"])

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        given = {value.name: narrowing.fed(value.name, feeds[value.name], _DTYPES[value.type])
                 for value in self._session.get_inputs()}
        names = [value.name for value in self._session.get_outputs()]
        return {name: narrowing.answered(value, self.narrowed.get(name))
                for name, value in zip(names, self._session.run(names, given), strict=True)}

    def deactivate(self) -> None:
        self._session = None


class SplitRunner(Runner):
    """Answers from ``folders``, a folder of the backend `tensorrt` for each signature.

    Args:
        open_core: makes the core of a folder; that of its ONNX file in ONNX Runtime by default.
    """

    def __init__(self, contract: Contract, folders: Mapping[str, Path], threads: int | None = None,
                 open_core: Callable[[Path], Core] | None = None) -> None:
        super().__init__(contract)
        self.folders, self.threads = dict(folders), threads
        self._open = open_core or (
            lambda folder: OnnxCore(folder / recipe.MODEL, recipe.read(folder).narrowed, threads))
        self._cores: dict[str, Core] = {}
        self._hosts: dict[str, _Host] = {}

    def activate_impl(self) -> None:
        for name, folder in self.folders.items():
            self._hosts[name] = _Host(folder, self.threads)
            self._cores[name] = self._open(folder)
            self._cores[name].activate()

    def infer_impl(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if signature not in self._cores:
            raise InputError(f"the candidate has no signature {signature}: it has {', '.join(self._cores)}")
        host = self._hosts[signature]
        known = host.before(feeds)
        known |= self._cores[signature].infer(known)
        known |= host.after(known)
        return {name: known[name] for name in self.contract.signatures[signature].outputs}

    def deactivate_impl(self) -> None:
        for core in self._cores.values():
            core.deactivate()
        self._cores, self._hosts = {}, {}


def before(contract: Contract, folders: Mapping[str, Path], requests: Iterable[Request]) -> Iterator[Request]:
    """What the cores in ``folders`` are fed, in their own dtypes, where their signatures get ``requests``.

    Requests for other signatures are left out.
    """
    hosts: dict[str, tuple[_Host, list[str]]] = {}
    for name, feeds in requests:
        if name not in folders:
            continue
        if name not in hosts:
            hosts[name] = _Host(folders[name], None), _inputs(folders[name] / recipe.MODEL)
        host, inputs = hosts[name]
        known = host.before(feeds | contract.signatures[name].left_out(feeds))
        yield name, {key: known[key] for key in inputs}


class _Host:
    """What of a signature stays in TensorFlow; nothing where its folder has no such part."""

    def __init__(self, folder: Path, threads: int | None) -> None:
        self._functions: dict[str, _Function] = {}
        if not (folder / HOST).is_dir():
            return
        import tensorflow as tf

        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        self._loaded = tf.saved_model.load(str(folder / HOST))  # its tables live as long as it does
        self._functions = {part: _Function(function) for part, function in self._loaded.signatures.items()}

    def before(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """``feeds``, the signature's inputs, and what is made of them before the core."""
        return dict(feeds) | self._call(BEFORE, feeds)

    def after(self, known: Mapping[str, Array]) -> dict[str, Array]:
        """What is made after the core."""
        return self._call(AFTER, known)

    def _call(self, part: str, known: Mapping[str, Array]) -> dict[str, Array]:
        return self._functions[part].call(known) if part in self._functions else {}


class _Function:
    """A signature of a host part."""

    def __init__(self, function: Any) -> None:
        self._function = function
        # A signature's own inputs come first among those of its function, tables after them.
        self._dtypes = {name: tensor.dtype
                        for name, tensor in zip(function._arg_keywords, function.inputs, strict=False)}

    def call(self, known: Mapping[str, Array]) -> dict[str, Array]:
        """Its outputs by name; ``known`` may hold more than it takes."""
        import tensorflow as tf

        given = {argument(name): value for name, value in known.items()}
        found = self._function(**{name: tf.constant(given[name], dtype=dtype) for name, dtype in self._dtypes.items()})
        return {name: as_array(value) for name, value in found.items()}


def _inputs(file: Path) -> list[str]:
    """The names of what an ONNX file takes."""
    import onnx

    return [value.name for value in onnx.load(str(file), load_external_data=False).graph.input]
