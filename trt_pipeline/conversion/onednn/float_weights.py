"""Weights of the products that stay in float32, stored as oneDNN reads them fastest."""

from __future__ import annotations

import numpy as np

from trt_pipeline.conversion import canonical
from trt_pipeline.conversion.onednn.editing import FLOAT, Editor


def untranspose(editor: Editor) -> None:
    """Store the weights of the scope's float products so that none is transposed when it is used.

    With 128 by 6000 weights, as an embedding makes that is also the last layer, a product with them transposed takes
    1.4 times as long for 4 rows and 1.8 times for 32. An embedding that is looked up too is kept twice.
    """
    for node in [node for node in editor.scope.nodes if node.op == "MatMul" and node.attr["T"].type == FLOAT]:
        weight = canonical.constant(editor.scope, node.input[1]) if node.attr["transpose_b"].b else None
        if weight is not None:
            node.input[1] = editor.constant(f"{node.name}/weight", np.ascontiguousarray(weight.T))
            node.attr["transpose_b"].b = False
