"""The command line: a thin skin over `trt_pipeline.api`; results on stdout, everything else on stderr.

The modules that hold the commands are imported in the order in which `--help` lists them.
"""

from __future__ import annotations

import os
import signal
import sys

from pydantic import ValidationError

from trt_pipeline.cli.app import app
from trt_pipeline.errors import ConfigError, ModelError, PipelineError, Unsupported, one_line

# isort: off
from trt_pipeline.cli import optimize, conversion, judgement, serving, reporting  # noqa: F401
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; every error is one line and the exit status of its kind."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app()
    except PipelineError as error:
        _fail(str(error), error.exit_status)
    except Unsupported as error:
        _fail(str(error), ModelError.exit_status)
    except ValidationError as error:
        _fail(str(error.errors()[0]["msg"]).removeprefix("Value error, "), ConfigError.exit_status)
    except ImportError as error:
        _fail(f"the package {error.name} is missing: pip install {error.name}", 3)
    except _Interrupted as interrupted:
        _fail("interrupted; what was finished is kept and the next run goes on from there", interrupted.status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("TRT_PIPELINE_TRACEBACK"):
            raise
        _fail(f"unexpected {type(error).__name__}: {one_line(error)}; "
              "set TRT_PIPELINE_TRACEBACK=1 to see where, and please report it", 70)


class _Interrupted(BaseException):
    """Ctrl-C or SIGTERM: passes through every handler, so workers are stopped and nothing is half-written."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.status = 128 + signal_number


def _interrupt(signal_number: int, _: object) -> None:
    raise _Interrupted(signal_number)


def _fail(message: str, status: int) -> None:
    print(f"trt-pipeline: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)
