"""An MLflow tracking server or store: reaching it, and its errors in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trt_pipeline.errors import ConfigError, MissingError, PipelineError, RequestError, UnreachableError, one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
# Of the first request: MLflow's own patience is minutes.
_FIRST_TRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_SILENT = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


@contextmanager
def client_of(uri: str | None) -> Iterator[MlflowClient]:
    """A client of the server or store at ``uri``; by default of ``MLFLOW_TRACKING_URI``, or what the program set.

    Nothing of MLflow's that is global to the program is touched: no current experiment, no active run.

    Raises:
        MissingError: there is no MLflow here, or not the parts that such a store needs.
        ConfigError: it is no address of a server or store, or MLflow wants to be told more of it.
        UnreachableError: no server answers.
        RequestError: it refused, or the store cannot be read or written.
    """
    # Without being asked, it would tell its makers of what it does.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
    except ImportError:
        raise MissingError("MLflow is not installed here: pip install 'trt-pipeline[mlflow]'") from None
    uri = uri or mlflow.get_tracking_uri()
    try:
        with _variables(_SILENT):
            yield mlflow.MlflowClient(tracking_uri=uri)
    except PipelineError:
        raise
    except Exception as error:  # of whatever stores the artefacts, too
        raise _in_one_line(error, uri) from error


@contextmanager
def impatient() -> Iterator[None]:
    """Requests give up within seconds, unless the user's environment says otherwise."""
    with _variables(_FIRST_TRIES):
        yield


def shown(uri: str) -> str:
    """``uri`` without a password."""
    return re.sub(r"//[^/@]*@", "//", uri)


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Environment variables that are not set already."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _in_one_line(error: Exception, uri: str) -> Exception:
    from mlflow.exceptions import MlflowException

    where, text = shown(uri), shown(one_line(error))
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if "MLFLOW_ALLOW_FILE_STORE" in str(error):
        return ConfigError(f"{where} is a folder, and MLflow keeps runs in one only where MLFLOW_ALLOW_FILE_STORE=true "
                           "is set: set it, or name a server: --mlflow http://HOST:5000")
    if scheme in _DATABASES and ("unsupported URI" in text or isinstance(error, ImportError)):
        return MissingError(f"{where} is a database, for which the whole of MLflow is needed: pip install mlflow; or "
                            "name a server: --mlflow http://HOST:5000, or MLFLOW_TRACKING_URI")
    if "unsupported URI" in text:
        return ConfigError(f"{where} is no address of an MLflow server: write http://HOST:5000")
    if isinstance(error, ImportError):
        return MissingError(f"{where}: the package {error.name} is missing: pip install {error.name}")
    if text.startswith("API request to ") and " failed with " in text and "error code" not in text:
        return UnreachableError("no MLflow server answers: start it, or name another with --mlflow or "
                                "MLFLOW_TRACKING_URI", "UNAVAILABLE", where)
    return RequestError(text, error.error_code if isinstance(error, MlflowException) else type(error).__name__, where)
