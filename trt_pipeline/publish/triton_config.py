"""Triton's config.pbtxt: what it has to be told of one signature's model, and what makes it serve it well.

- **Batching.** Triton forms batches up to ``max_batch_size`` of what waits. Nothing waits for company
  (``max_queue_delay_microseconds`` stays 0): a delay is latency for every lone request, and how much of it a
  service can spare is known to who runs it. An engine's batches are never larger than its profiles allow, and
  the sizes that the profiles are tuned for are preferred to those between them.
- **Instances.** An engine has one on each GPU, which uses all of its profiles: without being told, Triton
  would use the first one only. Another instance costs the engine's working memory again. Everything else has one on
  each GPU or, where there is none, one on the CPU, as it was timed: the same folder serves both.
- **Warm-up.** A model counts as ready once an engine has run in each profile's usual shape, so that no client
  waits for what TensorRT or CUDA do at first. Its data is zeros, for an engine takes any number. Other models run real
  requests, where there are any (`triton_warm_up`). Where there are none, only those are warmed up whose inputs are all
  floats of a known shape: zeros are no sentence, length or tf.Example, and Triton does not serve a model that fails.
- **Versions.** The newest is served.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from trt_pipeline.backends.base import ArtifactKind
from trt_pipeline.errors import ConfigError
from trt_pipeline.model.contract import SignatureContract, TensorContract
from trt_pipeline.publish import triton_warm_up
from trt_pipeline.publish.triton_warm_up import Request, WarmUp
from trt_pipeline.samples.profiles import Profile

# kind -> (Triton's platform, the name that it looks for in a version's folder)
PLATFORMS: dict[ArtifactKind, tuple[str, str]] = {
    "savedmodel": ("tensorflow_savedmodel", "model.savedmodel"),
    "tensorrt-savedmodel": ("tensorflow_savedmodel", "model.savedmodel"),
    "onnx": ("onnxruntime_onnx", "model.onnx"),
    "tensorrt-plan": ("tensorrt_plan", "model.plan")}
SAVED_MODELS = ("savedmodel", "tensorrt-savedmodel")
"""Kinds of which one folder holds all signatures."""
_DATA_TYPES = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "bfloat16": "BF16", "int8": "INT8",
               "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8", "uint16": "UINT16",
               "uint32": "UINT32", "uint64": "UINT64", "bool": "BOOL", "string": "STRING"}
_IN_ENGINES = ("float32", "float16", "bfloat16", "int8", "int32", "int64", "uint8", "bool")
_FLOATS = ("float32", "float64", "float16", "bfloat16")


def config_text(name: str, kind: ArtifactKind, contract: SignatureContract, max_batch_size: int,
                profiles: Sequence[Profile] = (), requests: Sequence[Request] = (),
                parameters: Mapping[str, str] | None = None) -> str:
    """The config.pbtxt of one signature.

    Triton leaves the batch dimension out of ``dims`` when it batches; it can only batch where
    every input and output has a free leading dimension.

    Args:
        contract: inputs and outputs as the model file has them.
        max_batch_size: the largest batch that Triton should form.
        profiles: the optimization profiles of an engine, in its order.
        requests: real ones of the signature, to warm up with.
        parameters: those of Triton's backend, such as ``gpu_mem_limit`` of onnxruntime.

    Raises:
        ConfigError: Triton has no such tensor.
    """
    most = largest_batch(contract, max_batch_size, profiles)
    batches = most > 0
    lines = [f"name: {_quoted(name)}", f'platform: "{PLATFORMS[kind][0]}"', f"max_batch_size: {most}"]
    types = _IN_ENGINES if kind == "tensorrt-plan" else tuple(_DATA_TYPES)
    for side, named in (("input", contract.inputs), ("output", contract.outputs)):
        entries = ",\n".join(_tensor_text(key, tensor, batches, types) for key, tensor in named.items())
        lines.append(f"{side} [\n{entries}\n]")
    told = {"TF_SIGNATURE_DEF": contract.name} if kind in SAVED_MODELS else {}
    lines += [f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
              for key, value in (told | dict(parameters or {})).items()]
    if batches:
        lines.append(_batching_text(profiles, most))
    lines.append(_instances_text(kind, len(profiles)))
    real = triton_warm_up.of_requests(requests, contract, most)
    lines += [_warm_up_of_files(one, contract) for one in real] or _warm_ups(kind, contract, profiles, most)
    lines.append("version_policy { latest { num_versions: 1 } }")
    return "\n".join(lines) + "\n"


def largest_batch(contract: SignatureContract, max_batch_size: int, profiles: Sequence[Profile] = ()) -> int:
    """The largest batch that Triton forms of ``contract``'s requests; 0 where it forms none."""
    if not all(t.batched for t in (*contract.inputs.values(), *contract.outputs.values())):
        return 0
    return min([max_batch_size, *_largest_batch(profiles)])


def _usual_batch(profile: Profile) -> int:
    """The batch size that ``profile`` is tuned for, of an engine with a batch axis."""
    return min((extent.opt[0] for extent in profile.values() if extent.opt), default=1)


def _largest_batch(profiles: Sequence[Profile]) -> list[int]:
    """The largest batch up to which some profile takes every batch, as Triton may form each; nothing without any."""
    ranges = [(max(e.min[0] for e in p.values() if e.min), min(e.max[0] for e in p.values() if e.max))
              for p in profiles if any(e.max for e in p.values())]
    if not ranges:
        return []
    reached = 0
    for low, high in sorted(ranges):
        if low <= reached + 1:
            reached = max(reached, high)
    # Where not even single requests are taken, clients have to send batches themselves.
    return [reached or max(high for _, high in ranges)]


def _batching_text(profiles: Sequence[Profile], most: int) -> str:
    # The largest is among them, or Triton would cut a long queue into small batches; 1 never is, or it
    # would send every request by itself.
    preferred = sorted({min(_usual_batch(p), most) for p in profiles} | {most}) if profiles else []
    preferred = [size for size in preferred if size > 1]
    sizes = f"preferred_batch_size: [ {', '.join(map(str, preferred))} ] " if preferred else ""
    return f"dynamic_batching {{ {sizes}}}"


def _instances_text(kind: ArtifactKind, profiles: int) -> str:
    if kind != "tensorrt-plan":
        return "instance_group [ { count: 1, kind: KIND_AUTO } ]"
    used = ", profile: [ " + ", ".join(f'"{n}"' for n in range(profiles)) + " ]" if profiles > 1 else ""
    return f"instance_group [ {{ count: 1, kind: KIND_GPU{used} }} ]"


def _warm_ups(kind: ArtifactKind, contract: SignatureContract, profiles: Sequence[Profile], most: int) -> Iterator[str]:
    """One request for each profile, in its usual shape; one of a single row for what is no engine."""
    if kind == "tensorrt-plan":
        for number, profile in enumerate(profiles or ({},)):
            shapes = {name: _shape(tensor, profile, name) for name, tensor in contract.inputs.items()}
            yield from _warm_up(f"profile {number}", min(_usual_batch(profile), most) if most else 1, contract, shapes,
                                bool(most))
    elif all(tensor.dtype in _FLOATS for tensor in contract.inputs.values()):
        yield from _warm_up("one row", 1, contract, {n: t.shape or () for n, t in contract.inputs.items()}, bool(most))


def _shape(tensor: TensorContract, profile: Profile, name: str) -> tuple[int | None, ...]:
    return profile[name].opt if name in profile else tensor.shape or ()


def _warm_up(name: str, batch: int, contract: SignatureContract, shapes: dict[str, tuple[int | None, ...]],
             batches: bool) -> Iterator[str]:
    rows = {key: shape[1:] if batches else shape for key, shape in shapes.items()}
    if rows and all(size is not None for row in rows.values() for size in row):
        yield _warm_up_text(name, batch, contract, rows, dict.fromkeys(rows, "zero_data: true"))


def _warm_up_of_files(one: WarmUp, contract: SignatureContract) -> str:
    data = {key: f"input_data_file: {_quoted(one.file(key))}" for key in one.data}
    return _warm_up_text(f"request {one.number}", one.rows, contract, one.shapes, data)


def _warm_up_text(name: str, batch: int, contract: SignatureContract, rows: Mapping[str, Sequence[int | None]],
                  data: Mapping[str, str]) -> str:
    inputs = "\n".join(
        f"  inputs {{ key: {_quoted(key)} value {{ data_type: TYPE_{_DATA_TYPES[contract.inputs[key].dtype]}, "
        f"dims: [ {', '.join(map(str, row or (1,)))} ], {data[key]} }} }}" for key, row in rows.items())
    return f"model_warmup [ {{\n  name: {_quoted(name)}, batch_size: {batch}\n{inputs}\n}} ]"


def _tensor_text(name: str, tensor: TensorContract, batches: bool, types: Sequence[str]) -> str:
    if tensor.shape is None or tensor.dtype not in types:
        raise ConfigError(f"Triton cannot serve '{name}', {tensor}: it needs a known rank and one of the dtypes "
                          f"{', '.join(types)}; leave the target out")
    dims = [-1 if size is None else size for size in tensor.shape[1 if batches else 0:]]
    # Triton wants at least one dimension; a scalar in each row of a batch is a 1 that is reshaped away.
    reshape = ", reshape: { shape: [ ] }" if batches and not dims else ""
    shown = ", ".join(map(str, dims or [1]))
    return f"  {{ name: {_quoted(name)}, data_type: TYPE_{_DATA_TYPES[tensor.dtype]}, dims: [ {shown} ]{reshape} }}"


def _quoted(text: str) -> str:
    """A string literal of protobuf's text format; JSON's escapes are among its own."""
    return json.dumps(text, ensure_ascii=False)
