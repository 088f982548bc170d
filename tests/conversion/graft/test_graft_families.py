"""Graphs of every kind with an engine in their place: the surgery changes no answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.backends.tf_trt import op_families
from trt_pipeline.conversion import graft
from trt_pipeline.conversion.canonical import canonical
from trt_pipeline.conversion.graft import Grafted
from trt_pipeline.conversion.split.split import split
from trt_pipeline.conversion.tftrt import stand_in
from trt_pipeline.conversion.tftrt.segment import engines
from trt_pipeline.model import saved_model

FAMILIES = ("casts", "half_precision", "double_precision", "shape_output_int64", "data_dependent_shape",
            "constant_output", "one_tensor_two_outputs", "unused_input", "neighbouring_engines", "assertion",
            "string_lookup", "ragged_text", "parsed_example", "sparse_product", "function_in_function", "branch",
            "loop", "tensor_array", "mapped", "branch_in_loop", "lstm")
OWN = frozenset({"int64", "uint8", "float64", "int16", "uint16"})


@pytest.mark.slow
def test_families_of_operations(tmp_path: Path) -> None:
    op_families.write(tmp_path / "model", *FAMILIES)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    contract = saved_model.read_contract(tmp_path / "model")
    (tmp_path / "plan").write_bytes(b"no engine")
    cores = {}
    for name in FAMILIES:
        core = split(canonical(loaded.signatures[name]), contract.signatures[name]).contract
        narrowed = {edge: tensor.dtype for edge, tensor in (core.inputs | core.outputs).items() if tensor.dtype in OWN}
        cores[name] = Grafted(tmp_path / "plan", "fp32", narrowed)
    graft.graft(tmp_path / "model", ("serve",), cores, tmp_path / "grafted")
    assert len(engines(saved_model.read_meta_graph(tmp_path / "grafted").graph_def)) == len(cores)
    stand_in.write(tmp_path / "grafted", tmp_path / "stand-in", "surgery")
    made = tf.saved_model.load(str(tmp_path / "stand-in"))
    for name in cores:
        feeds = {key: tf.constant(value) for key, value in op_families.samples(name, 3).items()}
        expected, got = loaded.signatures[name](**feeds), made.signatures[name](**feeds)
        for key, value in expected.items():
            assert got[key].dtype == value.dtype, (name, key)
            after, before = got[key].numpy(), value.numpy()
            if value.dtype.is_floating:
                after, before = after.astype(np.float64), before.astype(np.float64)
                np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5, err_msg=f"{name} {key}")
            else:
                np.testing.assert_array_equal(after, before, err_msg=f"{name} {key}")
