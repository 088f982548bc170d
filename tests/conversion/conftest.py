"""Nets that several tests convert, exported once."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.conversion.onnx_precision import nets


@pytest.fixture(scope="session")
def residual(tmp_path_factory: pytest.TempPathFactory) -> nets.Exported:
    return nets.made(nets.Residual(), tmp_path_factory.mktemp("residual"), [nets.images(8, 16, n) for n in range(4)])


@pytest.fixture(scope="session")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> nets.Exported:
    return nets.made(nets.Recurrent(), tmp_path_factory.mktemp("recurrent"), [nets.starts(n) for n in range(4)])


@pytest.fixture(scope="session")
def enko(tmp_path_factory: pytest.TempPathFactory) -> nets.Exported:
    """The translator, which decodes in a loop."""
    samples = np.load(ROOT / "calibration_data/enko.npz")["input"][:4]
    return nets.exported(ROOT / "models/enko/1", "translate", tmp_path_factory.mktemp("enko"), [{"input": samples}])
