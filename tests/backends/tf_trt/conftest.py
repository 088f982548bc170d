"""One SavedModel with a signature a family of operations, converted whole at each precision."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import op_families
import pytest

from tests.calibrated import calibrated
from tests.tftrt_shim.build import LIBRARIES, build
from tests.tftrt_shim.compare import Differences, differences
from trt_pipeline.backends.base import Artifact, ConversionRequest
from trt_pipeline.config.schema import Limits
from trt_pipeline.model import saved_model
from trt_pipeline.samples import store
from trt_pipeline.stages import jobs, worker


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families") / "model"
    op_families.write(folder)
    return folder


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family -> a batch of 3."""
    folder = tmp_path_factory.mktemp("samples")
    for name in op_families.FAMILIES:
        store.write(op_families.samples(name, 3), folder / name)
    return {name: folder / name for name in op_families.FAMILIES}


@pytest.fixture(scope="session")
def convert(families: Path, samples: dict[str, Path],
            tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Artifact, Path]]:
    """Convert the families to a precision, in a worker as the pipeline does it; kept for whoever asks again."""
    made: dict[str, tuple[Artifact, Path]] = {}
    contract = saved_model.read_contract(families)

    def converted(precision: str) -> tuple[Artifact, Path]:
        if precision not in made:
            folder = tmp_path_factory.mktemp(precision)
            ranges = calibrated(families, {name: store.read(path) for name, path in samples.items()},
                                folder / "ranges.json") if precision == "int8" else None
            request = ConversionRequest(model=families, tags=("serve",), signatures=tuple(contract.signatures),
                                        precision=precision, ranges=ranges)
            outcome = worker.run(jobs.convert, {
                "backend_name": "tf-trt", "request": request.model_dump(mode="json"),
                "contract": contract.model_dump(mode="json"), "folder": str(folder / "made")},
                Limits(time_s=300), folder / "log.txt")
            made[precision] = Artifact.model_validate(outcome.value), folder / "made" / "model"
        return made[precision]

    return converted


@pytest.fixture(scope="session")
def errors(families: Path, samples: dict[str, Path]) -> Callable[[Path], Differences]:
    """Family -> largest difference of a model's outputs from the original's, on the shim."""
    library = build(Path(sys.executable), LIBRARIES)
    folder = next(iter(samples.values())).parent
    return lambda model: differences(families, model, library, folder)
