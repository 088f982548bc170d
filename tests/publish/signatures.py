"""Signatures made by hand."""

from __future__ import annotations

from trt_pipeline.model.contract import SignatureContract, TensorContract


def tensor(dtype: str, *shape: int | None) -> TensorContract:
    return TensorContract(dtype=dtype, shape=shape)


def signature(inputs: dict[str, TensorContract], outputs: dict[str, TensorContract],
              name: str = "serving_default") -> SignatureContract:
    return SignatureContract(name=name, method_name="", inputs=inputs, outputs=outputs)


IMAGE = signature({"image": tensor("float32", None, 8, 8, 1)}, {"logits": tensor("float32", None, 10)})
