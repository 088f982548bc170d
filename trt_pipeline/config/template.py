"""The configuration that `init` writes from what `inspect` sees."""

from __future__ import annotations

from pathlib import Path

from trt_pipeline.inspection import Inspection

_TEMPLATE = """\
# Written by 'trt-pipeline init'; 'trt-pipeline optimize {name}' uses it.
name: {name}
model: {model}
# Signatures of the model; leave out those that you do not serve.
signatures: [{signatures}]
samples:
  # Real inputs, named arrays with the batch axis first (.npz, .npy, .tfrecord, folder, module:function).
  # Inputs: {inputs}
  validation: calibration_data/{name}_validation.npz
  # For int8 only, and never the same data as above.
  calibration: calibration_data/{name}.npz
{padding}
benchmark:
  batch_sizes: [1, 8]
objective: latency_p50@1
max_batch_size: 32
targets:
  - {{kind: tf-serving, version: "2.14"}}
  - {{kind: triton, version: "24.10"}}
# Bounds that are not given follow from each output's dtype and precision, and from the original's noise.
# gate:
#   precisions:
#     int8:
#       OUTPUT: {{close: {{scaled: 0.05}}}}
"""


def text(name: str, model: Path, inspection: Inspection) -> str:
    """YAML text for ``model``; what a user has to decide stands in it as a comment."""
    signatures = inspection.contract.signatures
    inputs = "; ".join(f"{s.name}: " + ", ".join(f"{k} {t}" for k, t in s.inputs.items()) for s in signatures.values())
    sequences = sorted({key for s in signatures.values() for key, t in s.inputs.items()
                        if t.dtype in ("int32", "int64") and t.shape is not None and len(t.shape) == 2
                        and t.shape[1] is None})
    padding = "# Value that fills up these inputs' axis 1; batches are trimmed to true lengths.\n" + (
        f"padding: {{{', '.join(f'{key}: 0' for key in sequences)}}}") if sequences else "# padding: {INPUT: 0}"
    return _TEMPLATE.format(name=name, model=model, signatures=", ".join(signatures), inputs=inputs, padding=padding)
