"""The README.md beside a Triton configuration: what a client and an operator have to know that it cannot say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trt_pipeline.backends.base import CLIENT, Artifact
from trt_pipeline.model.contract import SignatureContract
from trt_pipeline.publish.servers import TENSORRT, VERSION_COMPATIBLE
from trt_pipeline.samples.profiles import Profile

_GPU = "gpu"


def readme_text(name: str, artifact: Artifact, signature: str, contract: SignatureContract,
                narrowed: Mapping[str, str]) -> str:
    """The README of one model; empty where there is nothing to say.

    Args:
        contract: inputs and outputs as the model file has them.
        narrowed: inputs and outputs of an engine in int32, and their own dtype.
    """
    parts = []
    if artifact.kind == "tensorrt-plan":
        parts.append(_engine(artifact.built, signature))
        if profiles := artifact.profiles.get(signature):
            parts.append("It takes these shapes (smallest, usual, largest; a free batch axis first):\n\n"
                         + "\n".join(_shapes(profiles)))
    if signature in artifact.core:
        lines = artifact.description.get(signature, {}).get(CLIENT, ["what the signature does besides"])
        parts.append(f"It is the numeric core of `{signature}`: {_named(contract.inputs)} in, "
                     f"{_named(contract.outputs)} out. What the client has to do around it:\n\n"
                     + "\n".join(f"- {line}" for line in lines))
    if narrowed:
        parts.append("\n".join(f"- `{key}` is int32 here and {own} in the SavedModel: send and expect int32."
                               for key, own in narrowed.items()))
    return f"# {name}\n\n" + "\n\n".join(parts) + "\n" if parts else ""


def _engine(built: Mapping[str, str], signature: str) -> str:
    gpu = f" ({built[_GPU]})" if _GPU in built else ""
    text = (f"The TensorRT engine of the signature `{signature}`. It loads with TensorRT {built.get(TENSORRT, '?')} "
            f"and on the kind of GPU that it was built on{gpu}.")
    if VERSION_COMPATIBLE in built:
        text += (" Later versions of TensorRT load it where Triton is started with "
                 "`--backend-config=tensorrt,version-compatible=true`.")
    return text


def _shapes(profiles: Sequence[Profile]) -> list[str]:
    return [f"- profile {number}: " + "; ".join(
        f"`{key}` {_dims(e.min)}, {_dims(e.opt)}, {_dims(e.max)}" for key, e in profile.items())
        for number, profile in enumerate(profiles)]


def _dims(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _named(tensors: Mapping[str, object]) -> str:
    return ", ".join(f"`{key}` {tensor}" for key, tensor in tensors.items())
