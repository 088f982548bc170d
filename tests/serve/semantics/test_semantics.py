"""TensorFlow Serving's documented semantics, replayed: the tables are the YAML files beside this one.

The preview server is judged, or, where the environment names one, a real tensorflow_model_server by the same tables::

    python tests/serve/semantics/semantics_models.py /tmp/semantics
    docker run --rm -p 8500:8500 -p 8501:8501 -v /tmp/semantics:/tmp/semantics tensorflow/serving:2.14.1 \\
        --model_config_file=/tmp/semantics/models.config \\
        --monitoring_config_file=/tmp/semantics/monitoring.config
    TF_SERVING_MODELS=/tmp/semantics TF_SERVING_REST=127.0.0.1:8501 TF_SERVING_GRPC=127.0.0.1:8500 \\
        python -m pytest tests/serve/semantics
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.serve.semantics import semantics_models

HERE = Path(__file__).parent
REAL = "TF_SERVING_REST" in os.environ
BODY_LIMIT = 2**20
DEADLINE_S = 60.0
Row = dict[str, Any]


def _table(name: str) -> list[Row]:
    rows: list[Row] = yaml.safe_load((HERE / f"{name}.yaml").read_text())
    return rows


TABLES = {name: _table(name) for name in ("rest_good", "rest_bad", "grpc_good", "grpc_bad", "reload")}


def _each(name: str) -> Any:
    return pytest.mark.parametrize("row", [pytest.param(row, id=row["id"]) for row in TABLES[name]])


class Served(NamedTuple):
    """The server that is judged, and the folder of its models."""

    rest: str
    grpc: str
    models: Path


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server as it starts, when no version has a label yet."""
    if REAL:
        environment = os.environ
        yield Served(environment["TF_SERVING_REST"], environment["TF_SERVING_GRPC"],
                     Path(environment["TF_SERVING_MODELS"]))
        return
    from trt_pipeline.serve.models_config import read
    from trt_pipeline.serve.server import running

    folder = tmp_path_factory.mktemp("semantics")
    with running(read(semantics_models.save_all(folder)), body_limit=BODY_LIMIT) as addresses:
        yield Served(addresses.rest.removeprefix("http://"), addresses.grpc, folder)


@pytest.fixture(scope="module")
def channel(started: Served) -> Iterator[Any]:
    import grpc

    with grpc.insecure_channel(started.grpc, options=[("grpc.max_send_message_length", -1)]) as open_channel:
        yield open_channel


@pytest.fixture(scope="module")
def served(started: Served, channel: Any) -> Served:
    """The server with the labels that the tables ask for, given as the documents say: when the versions are loaded."""
    _called(channel, _reload(semantics_models.models_config(started.models, labels=True)))
    return started


# ---- REST ------------------------------------------------------------------------------------------------------------

class Answer(NamedTuple):
    status: int
    content_type: str | None
    body: bytes


def _body(row: Row) -> bytes | None:
    if "body_hex" in row:
        return bytes.fromhex(row["body_hex"])
    if "body_repeated" in row:
        before, first, first_times, middle, last, last_times, after = row["body_repeated"]
        return f"{before}{first * first_times}{middle}{last * last_times}{after}".encode()
    return row["body"].encode() if "body" in row else None


def _asked(served: Served, row: Row) -> Answer:
    method, _, path = row["request"].partition(" ")
    connection = HTTPConnection(served.rest, timeout=DEADLINE_S)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        body = _body(row)
        headers = dict(row.get("headers", {})) | ({} if body is None else {"Content-Length": str(len(body))})
        for name, value in headers.items():
            connection.putheader(name, value)
        try:
            connection.endheaders(body)
        except (BrokenPipeError, ConnectionResetError):
            assert "body_repeated" in row, "only a body over the limit may be cut short"
        response: HTTPResponse = connection.getresponse()
        return Answer(response.status, response.getheader("Content-Type"), response.read())
    finally:
        connection.close()


def _as_written(number: str) -> tuple[str, str]:
    return "number", number


def _json(text: str | bytes) -> Any:
    """A JSON document whose numbers are the text that they were: 3.0 is neither 3 nor "3.0"."""
    return json.loads(text, parse_float=_as_written, parse_int=_as_written, parse_constant=_as_written)


def _signature_defs(saved_model: Path) -> Any:
    """What a SavedModel itself says of its signatures, as SignatureDefMap."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
    from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

    graph = SavedModel.FromString((saved_model / "saved_model.pb").read_bytes()).meta_graphs[0]
    return SignatureDefMap(signature_def=graph.signature_def)


def _metadata_json(served: Served, version: str) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    name, _, number = version.partition("/")
    described = MessageToDict(_signature_defs(served.models / version), preserving_proto_field_name=True,
                              including_default_value_fields=True)
    return {"model_spec": {"name": name, "signature_name": "", "version": number},
            "metadata": {"signature_def": described}}


def _judge_error(row: Row, message: str) -> None:
    if "error" in row:
        assert message == row["error"]
    if "error_contains" in row:
        assert row["error_contains"] in message
    if "error_matches" in row:
        assert re.fullmatch(row["error_matches"], message), message


def _judge_rest(served: Served, row: Row) -> None:
    answer = _asked(served, row)
    assert answer.status == row.get("status", 200), answer.body
    if "text" in row:
        assert answer.body.decode() == row["text"]
        return
    if "answer" in row:
        assert _json(answer.body) == _json(row["answer"])
    elif "metadata_of" in row:
        assert json.loads(answer.body) == _metadata_json(served, row["metadata_of"])
    elif any(key.startswith("error") for key in row):
        said = json.loads(answer.body)
        assert list(said) == ["error"]
        _judge_error(row, said["error"])
    else:
        return  # the row is about the status alone
    assert answer.content_type == "application/json"


@_each("rest_good")
def test_rest_answers(served: Served, row: Row) -> None:
    _judge_rest(served, row)


@_each("rest_bad")
def test_rest_refuses(served: Served, row: Row) -> None:
    _skip_where_real(row)
    _judge_rest(served, row)


def _skip_where_real(row: Row) -> None:
    if REAL and "preview_only" in row:
        pytest.skip(row["preview_only"])


# ---- gRPC ------------------------------------------------------------------------------------------------------------

def _messages(call: str) -> tuple[str, Any, Any]:
    """The full method name of a call, and the classes of its request and its response."""
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        predict_pb2,
        regression_pb2,
    )

    prediction, model = (f"/tensorflow.serving.{service}Service" for service in ("Prediction", "Model"))
    return {
        "Predict": (f"{prediction}/Predict", predict_pb2.PredictRequest, predict_pb2.PredictResponse),
        "Classify": (f"{prediction}/Classify", classification_pb2.ClassificationRequest,
                     classification_pb2.ClassificationResponse),
        "Regress": (f"{prediction}/Regress", regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
        "MultiInference": (f"{prediction}/MultiInference", inference_pb2.MultiInferenceRequest,
                           inference_pb2.MultiInferenceResponse),
        "GetModelMetadata": (f"{prediction}/GetModelMetadata", get_model_metadata_pb2.GetModelMetadataRequest,
                             get_model_metadata_pb2.GetModelMetadataResponse),
        "GetModelStatus": (f"{model}/GetModelStatus", get_model_status_pb2.GetModelStatusRequest,
                           get_model_status_pb2.GetModelStatusResponse),
        "HandleReloadConfigRequest": (f"{model}/HandleReloadConfigRequest", model_management_pb2.ReloadConfigRequest,
                                      model_management_pb2.ReloadConfigResponse),
    }[call]


def _called(channel: Any, row: Row) -> Any:
    """The parsed response to a row's call; grpc.RpcError where it is refused."""
    from google.protobuf import text_format

    if "method" in row:
        return channel.unary_unary(row["method"])(bytes.fromhex(row["request_hex"]), timeout=DEADLINE_S)
    method, request_class, response_class = _messages(row["call"])
    request = text_format.Parse(row["request"], request_class())
    if "name_of_length" in row:
        request.model_spec.name = "n" * row["name_of_length"]
    for name, count in row.get("inputs_of_ones", {}).items():
        tensor = request.inputs[name]
        tensor.dtype = 1  # DT_FLOAT
        tensor.tensor_shape.dim.add(size=count)
        tensor.float_val.extend([1.0] * count)
    return channel.unary_unary(method, request_class.SerializeToString, response_class.FromString)(
        request, timeout=DEADLINE_S)


def _judge_refusal(channel: Any, row: Row) -> None:
    import grpc

    with pytest.raises(grpc.RpcError) as raised:
        _called(channel, row)
    assert (raised.value.code().name, raised.value.details()) == (row["code"], raised.value.details())
    _judge_error(row, raised.value.details())


@_each("grpc_good")
def test_grpc_answers(served: Served, channel: Any, row: Row) -> None:
    from google.protobuf import text_format

    response = _called(channel, row)
    if "metadata_of" in row:
        described = type(_signature_defs(served.models / row["metadata_of"]))()
        assert list(response.metadata) == ["signature_def"]
        assert response.metadata["signature_def"].Unpack(described)
        assert described == _signature_defs(served.models / row["metadata_of"])
        del response.metadata["signature_def"]
    expected = text_format.Parse(row["answer"], type(response)())
    assert text_format.MessageToString(response) == text_format.MessageToString(expected)


@_each("grpc_bad")
def test_grpc_refuses(channel: Any, row: Row) -> None:
    _skip_where_real(row)
    _judge_refusal(channel, row)


# ---- After them ------------------------------------------------------------------------------------------------------

def test_every_row_has_a_name_of_its_own_and_a_source() -> None:
    for name, rows in TABLES.items():
        names = [row["id"] for row in rows]
        assert sorted(set(names)) == sorted(names), name
        assert [row["id"] for row in rows if not row.get("source")] == [], name


def test_the_server_lives_on(served: Served, channel: Any) -> None:
    """All that is bad, once more and at one go; then what was good is answered as before."""
    import grpc

    for row in TABLES["rest_bad"]:
        if not (REAL and "preview_only" in row):
            _asked(served, row)
    for row in TABLES["grpc_bad"]:
        with pytest.raises(grpc.RpcError):
            _called(channel, row)
    for row in TABLES["rest_good"][:8]:
        _judge_rest(served, row)
    for row in TABLES["grpc_good"][:8]:
        test_grpc_answers(served, channel, row)


def test_metrics(served: Served, channel: Any) -> None:
    """By prometheus_exporter.cc, and util.cc RecordModelRequestCount and RecordRequestLatency."""
    rows = {name: {row["id"]: row for row in TABLES[name]} for name in TABLES}
    _asked(served, rows["rest_good"]["docs_predict"])
    _asked(served, rows["rest_bad"]["unknown_version"])
    _called(channel, rows["grpc_good"]["predict"])
    text = _asked(served, {"request": "GET /monitoring/prometheus/metrics"}).body.decode()
    count, latency = ":tensorflow:serving:request_count", ":tensorflow:serving:request_latency"
    assert {f"# TYPE {count} counter", f"# TYPE {latency} histogram"} <= set(text.splitlines())
    found = [(name, dict(re.findall(r'(\w+)="([^"]*)"', labels)))
             for name, labels in re.findall(r"^([^\s{]+)\{(.*)\} \S+$", text, re.MULTILINE)]
    three = "saved_model_half_plus_three"
    for expected in ((count, {"model_name": three, "status": "OK"}),
                     (count, {"model_name": "versions", "status": "NOT_FOUND"}),
                     (f"{latency}_count", {"model_name": three, "API": "predict", "entrypoint": "REST"}),
                     (f"{latency}_sum", {"model_name": "half_plus_two", "API": "Predict", "entrypoint": "GRPC"})):
        assert expected in found


def _reload(config: str) -> Row:
    return {"call": "HandleReloadConfigRequest", "request": f"config {{ {config} }}" if config else ""}


@_each("reload")
def test_reload(served: Served, channel: Any, row: Row) -> None:
    """In the table's order."""
    whole = {"all": False, "all with labels": True}
    config = (semantics_models.models_config(served.models, whole[row["config"]]) if row["config"] in whole
              else row["config"].replace("{models}", str(served.models)))
    if "code" in row:
        _judge_refusal(channel, row | _reload(config))
    else:
        response = _called(channel, _reload(config))
        assert response.HasField("status")
        assert (response.status.error_code, response.status.error_message) == (0, "")
    if "then" in row:
        _judge_soon(served, row["then"])


def _judge_soon(served: Served, then: Row) -> None:
    asked = then | ({"body": '{"instances": [0.0]}'} if then["request"].startswith("POST") else {})
    expected = (then["status"], _json(then["answer"]))
    until = time.monotonic() + DEADLINE_S
    while True:
        answer = _asked(served, asked)
        found = (answer.status, _json(answer.body))
        if found == expected or then.get("at_once") or time.monotonic() > until:
            break
        time.sleep(0.02)
    assert found == expected
