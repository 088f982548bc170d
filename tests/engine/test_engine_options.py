"""What backends.tensorrt.options may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trt_pipeline.engine import options
from trt_pipeline.engine.options import Options
from trt_pipeline.errors import ConfigError, InputError


def test_nothing_is_enough() -> None:
    assert options.parse({}) == Options()
    assert options.parse({"tensorrt": "11.4", "workspace_gb": 2, "version_compatible": True}).workspace_gb == 2


@pytest.mark.parametrize(("given", "says"), [
    ({"workspace": 4}, "backend tensorrt has no option 'workspace': it has tensorrt, workspace_gb, "),
    ({"cuda_graph": True}, "did you mean 'cuda_graphs'?"),
    ({"tensorrt": "7.2"}, "backend tensorrt, option tensorrt: TensorRT 7.2 is too old: name 8.5 or later"),
    ({"tensorrt": "newest"}, "option tensorrt: 'newest' is not a TensorRT version such as 8.5 or 10.13"),
    ({"workspace_gb": 0}, "option workspace_gb: Input should be greater than 0"),
    ({"builder_optimization_level": 6}, "option builder_optimization_level: Input should be less than or equal to 5"),
    ({"tensorrt": "8.5", "hardware_compatible": True},
     "backend tensorrt: hardware_compatible needs TensorRT 8.6 or later, and this converts for 8.5"),
])
def test_what_there_is_not_is_refused_by_name(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        options.parse(given)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_they_lie_beside_the_candidate(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is no candidate of the backend tensorrt"):
        options.read(tmp_path)
    chosen = Options(tensorrt="11.4", cuda_graphs=True)
    options.write(chosen, tmp_path)
    assert options.read(tmp_path) == chosen
    file, = tmp_path.iterdir()
    file.write_text('{"sparsity": true}')
    with pytest.raises(InputError, match="was written by another version: convert the model again"):
        options.read(tmp_path)
