"""What a configuration's ``backends.NAME.options`` may say: checked by the model that the backend has of it."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen
from trt_pipeline.suggest import did_you_mean

Options = TypeVar("Options", bound=Frozen)


def parse(kind: type[Options], given: dict[str, Any], backend: str) -> Options:
    """The options in ``given`` of the backend called ``backend``.

    Raises:
        ConfigError: one is unknown or has no such value.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            known = list(kind.model_fields)
            raise ConfigError(f"backend {backend} has no option '{name}': it has {', '.join(known)}"
                              f"{did_you_mean(name, known)}") from None
        said = first["msg"].removeprefix("Value error, ")
        where = f"backend {backend}, option {name}" if name else f"backend {backend}"
        raise ConfigError(f"{where}: {said}") from None
