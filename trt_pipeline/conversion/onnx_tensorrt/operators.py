"""Which standard ONNX operators TensorRT's parser has no form for, so that it is said before a GPU is needed.

By the tables of its documentation (8.5 to 10.15). What this does not name may still be refused by the parser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trt_pipeline.conversion.onnx_precision.bodies import bodies_of
from trt_pipeline.engine.generation import Version
from trt_pipeline.errors import Unsupported

if TYPE_CHECKING:
    import onnx

_LACKING = frozenset({
    "AffineGrid", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "CenterCropPad",
    "Col2Im", "Compress", "ConcatFromSequence", "ConvInteger", "DFT", "Det", "DynamicQuantizeLinear", "ImageDecoder",
    "MatMulInteger", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix", "Multinomial", "NegativeLogLikelihoodLoss",
    "Optional", "OptionalGetElement", "OptionalHasElement", "QLinearConv", "QLinearMatMul", "RegexFullMatch",
    "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength",
    "SequenceMap", "SoftmaxCrossEntropyLoss", "SplitToSequence", "StringConcat", "StringNormalizer", "StringSplit",
    "TfIdfVectorizer", "Unique"})
_FIRST_WITH = {"IsInf": (8, 6), "LayerNormalization": (8, 6), "Hardmax": (9, 2), "CastLike": (10, 0),
               "BlackmanWindow": (10, 4), "HammingWindow": (10, 4), "HannWindow": (10, 4), "STFT": (10, 5)}


def refuse(model: onnx.ModelProto, signature: str, version: Version) -> None:
    """Refuse a model, bodies included, that TensorRT ``version`` cannot parse.

    Raises:
        Unsupported: it has such operators; they are named, with the first node of each.
    """
    found: dict[str, str] = {}
    for body in bodies_of(model):
        for node in body.graph.node:
            if node.op_type in _LACKING or version < _FIRST_WITH.get(node.op_type, ()):
                found.setdefault(node.op_type, f"{body.path}{node.name}")
    if found:
        later = [_FIRST_WITH[kind] for kind in found if kind in _FIRST_WITH]
        what = ("leave these operations to TensorFlow or replace them in the model" if len(later) < len(found) else
                f"TensorRT {'.'.join(map(str, max(later)))} is the first that has")
        raise Unsupported(f"signature {signature}: TensorRT {'.'.join(map(str, version))} has no form for "
                          f"{', '.join(f'{kind} ({node})' for kind, node in list(found.items())[:5])}; {what}")
