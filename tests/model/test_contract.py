"""What a publication breaks of a contract, line by line."""

from __future__ import annotations

from typing import Any

import pytest

from trt_pipeline.errors import ConfigError
from trt_pipeline.model.contract import Contract, Shape, SignatureContract, TensorContract, differences


def tensor(dtype: str = "float32", shape: Shape | None = (None, 3), default: str | None = None) -> TensorContract:
    return TensorContract(dtype=dtype, shape=shape, default=default)


def signature(name: str = "serve", method: str = "tensorflow/serving/predict",
              inputs: dict[str, TensorContract] | None = None,
              outputs: dict[str, TensorContract] | None = None) -> SignatureContract:
    return SignatureContract(name=name, method_name=method, inputs=inputs or {"x": tensor(), "y": tensor()},
                             outputs=outputs or {"z": tensor()})


def contract(*signatures: SignatureContract, **changes: Any) -> Contract:
    values: dict[str, Any] = {
        "tags": ("serve",), "signatures": {s.name: s for s in signatures or (signature(),)},
        "assets": {"labels.txt": "aa"}, "extra_assets": {}, "tables": 1, "variable_bytes": 10,
        "tensorflow_version": "2.14.1"}
    return Contract(**(values | changes))


def test_a_contract_keeps_itself() -> None:
    assert differences(contract(), contract()) == []


@pytest.mark.parametrize("changes", [{"variable_bytes": 0}, {"tensorflow_version": "1.15"}])
def test_what_clients_do_not_rely_on_may_change(changes: dict[str, Any]) -> None:
    assert differences(contract(), contract(**changes)) == []


@pytest.mark.parametrize(("changes", "line"), [
    ({"tags": ("gpu", "serve")}, "tags: ('serve',) became ('gpu', 'serve')"),
    ({"assets": {}}, "assets: {'labels.txt': 'aa'} became {}"),
    ({"assets": {"labels.txt": "bb"}}, "assets: {'labels.txt': 'aa'} became {'labels.txt': 'bb'}"),
    ({"extra_assets": {"a": "b"}}, "assets.extra: {} became {'a': 'b'}"),
    ({"tables": 0}, "tables: 1 became 0"),
])
def test_what_belongs_to_the_model(changes: dict[str, Any], line: str) -> None:
    assert differences(contract(), contract(**changes)) == [line]


@pytest.mark.parametrize(("published", "line"), [
    (signature(method="tensorflow/serving/classify"),
     "method name: tensorflow/serving/predict became tensorflow/serving/classify"),
    (signature(inputs={"y": tensor(), "x": tensor()}), "inputs: ['x', 'y'] became ['y', 'x']"),
    (signature(inputs={"x": tensor()}), "inputs: ['x', 'y'] became ['x']"),
    (signature(inputs={"x": tensor("float64"), "y": tensor()}), "inputs x: float32 (-1,3) became float64 (-1,3)"),
    (signature(inputs={"x": tensor(shape=(1, 3)), "y": tensor()}), "inputs x: float32 (-1,3) became float32 (1,3)"),
    (signature(inputs={"x": tensor(shape=None), "y": tensor()}), "inputs x: float32 (-1,3) became float32 (?)"),
    (signature(inputs={"x": tensor(default="1.0"), "y": tensor()}), "inputs x default: None became 1.0"),
    (signature(outputs={"out": tensor()}), "outputs: ['z'] became ['out']"),
    (signature(outputs={"z": tensor(shape=())}), "outputs z: float32 (-1,3) became float32 ()"),
])
def test_what_belongs_to_a_signature(published: SignatureContract, line: str) -> None:
    assert differences(contract(), contract(published)) == [f"signature serve: {line}"]


def test_a_lost_signature_and_another_order() -> None:
    a, b = signature("a"), signature("b")
    assert differences(contract(a, b), contract(a)) == ["signature order: ['a', 'b'] became ['a']"]
    assert differences(contract(a, b), contract(b, a)) == ["signature order: ['a', 'b'] became ['b', 'a']"]


def test_every_break_has_a_line_of_its_own() -> None:
    broken = signature(method="", inputs={"x": tensor("int8"), "y": tensor()}, outputs={"w": tensor()})
    assert differences(contract(), contract(broken, tables=0)) == [
        "signature serve: method name: tensorflow/serving/predict became ",
        "signature serve: inputs x: float32 (-1,3) became int8 (-1,3)",
        "signature serve: outputs: ['z'] became ['w']",
        "tables: 1 became 0"]


@pytest.mark.parametrize(("shapes", "fixed", "batched"), [
    ([(None, 3)], None, True), ([(None,), (None, 2)], None, True), ([(4, 3)], 4, False),
    ([(None, 3), (4, 3)], 4, False), ([()], None, False), ([None], None, False), ([(None, 3), ()], None, False),
    ([], None, False)])
def test_batches(shapes: list[Shape | None], fixed: int | None, batched: bool) -> None:
    made = SignatureContract(name="s", method_name="", outputs={},
                             inputs={str(i): tensor(shape=shape) for i, shape in enumerate(shapes)})
    assert (made.fixed_batch, made.batched) == (fixed, batched)


def test_an_unknown_signature_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        contract(signature("translate"), signature("score")).signature("translte")
    assert str(caught.value) == ("no signature 'translte' in the model: it has translate, score; "
                                 "did you mean 'translate'?")


def test_a_contract_survives_json_with_its_orders() -> None:
    made = contract(signature("b"), signature("a", inputs={"y": tensor(), "x": tensor(shape=None)}))
    again = Contract.model_validate_json(made.model_dump_json())
    assert again == made
    assert (list(again.signatures), list(again.signatures["a"].inputs)) == (["b", "a"], ["y", "x"])
