"""Translate with a running server of TensorFlow Serving's gRPC API: the stubs, SentencePiece and nothing else.

    python examples/translate.py enko "Save the file"
    python examples/translate.py koen "파일을 저장합니다" --server localhost:8500

It is how a client has to go about it in any language: text to ids, one Predict, ids to text.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import grpc
import sentencepiece
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

PAD, EOS, UNKNOWN = 0, 1, 2


def translate(stub: prediction_service_pb2_grpc.PredictionServiceStub, pieces: sentencepiece.SentencePieceProcessor,
              model: str, sentences: Sequence[str]) -> list[str]:
    """The translations of ``sentences``, in one request to ``model``."""
    rows = [[*ids, EOS] for ids in pieces.encode(list(sentences))]
    width = max(len(row) for row in rows)

    request = predict_pb2.PredictRequest(output_filter=["outputs"])
    request.model_spec.name = model
    request.model_spec.signature_name = "translate"
    ids = tensor_pb2.TensorProto(dtype=types_pb2.DT_INT64)
    for size in (len(rows), width):
        ids.tensor_shape.dim.add(size=size)
    for row in rows:
        ids.int64_val.extend(row + [PAD] * (width - len(row)))
    request.inputs["input"].CopyFrom(ids)

    outputs = stub.Predict(request, timeout=60.0).outputs["outputs"]
    length = outputs.tensor_shape.dim[1].size
    return [decode(pieces, outputs.int_val[start:start + length]) for start in range(0, len(rows) * length, length)]


def decode(pieces: sentencepiece.SentencePieceProcessor, ids: Sequence[int]) -> str:
    """The text of ``ids`` up to the first EOS."""
    known = list(ids)
    sentence = known[:known.index(EOS)] if EOS in known else known
    return str(pieces.decode([token for token in sentence if token > UNKNOWN]))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="enko or koen")
    parser.add_argument("sentences", nargs="+")
    parser.add_argument("--server", default="localhost:8500", help="host:port of gRPC")
    parser.add_argument("--tokenizer", help="by default that of models/MODEL/1")
    given = parser.parse_args()
    pieces = sentencepiece.SentencePieceProcessor(
        model_file=given.tokenizer or f"models/{given.model}/1/assets.extra/spm.model")
    with grpc.insecure_channel(given.server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for translation in translate(stub, pieces, given.model, given.sentences):
            print(translation)


if __name__ == "__main__":
    main()
