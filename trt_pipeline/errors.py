"""Every error the pipeline raises on purpose, and the exit status each one becomes.

    PipelineError
    ├── GateError            1  a gate was not met
    ├── InputError           2  what the user gave is wrong
    │   ├── ModelError         2  the SavedModel
    │   │   └── ModelChangedError  2  ... was written to during the run
    │   ├── ConfigError      2  the configuration or an option
    │   ├── SamplesError     2  the samples
    │   └── OutputError      2  where results should go (not writable, full, in use)
    ├── RequestError         2  a server refused a request
    │   └── UnreachableError   3  ... or none answers
    └── MissingError         3  this machine lacks what the command needs
    Unsupported              -  a backend cannot take this model; becomes a row, not an exit

Messages are one line: the thing, what is wrong with it, and what to do.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base of all errors that end a command with one line on stderr."""

    exit_status = 2


class GateError(PipelineError):
    """A bound that the user set was not kept."""

    exit_status = 1


class InputError(PipelineError):
    """Something that the user named or wrote is wrong."""


class ModelError(InputError):
    """The SavedModel is missing, damaged or not what it was said to be."""


class ModelChangedError(ModelError):
    """The SavedModel was written to while it was being optimized."""


class ConfigError(InputError):
    """The configuration file or a command-line option is wrong."""


class SamplesError(InputError):
    """The samples do not fit the signature that they are for."""


class OutputError(InputError):
    """Results cannot be written: not writable, disk full, or another run holds the folder."""


class RequestError(PipelineError):
    """A server refused a request, or did not answer it in time.

    ``code`` is gRPC's name for the kind of refusal (NOT_FOUND, INVALID_ARGUMENT, ...), of an answer over HTTP what
    comes nearest to its status; ``message`` is the server's own.
    """

    def __init__(self, message: str, code: str = "UNKNOWN", server: str = "") -> None:
        super().__init__(f"{server}: {message} ({code})" if server else message)
        self.message, self.code = message, code


class UnreachableError(RequestError):
    """No server answers at an address."""

    exit_status = 3


class MissingError(PipelineError):
    """This machine lacks a GPU, a library or a package that the command needs."""

    exit_status = 3


class Unsupported(Exception):
    """A backend cannot take this model; the message names the signature and the operations."""


ERROR_TYPES: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (PipelineError, GateError, InputError, ModelError, ModelChangedError, ConfigError, SamplesError,
                 OutputError, RequestError, UnreachableError, MissingError, Unsupported)
}


def one_line(error: BaseException, longest: int = 300) -> str:
    """The line of ``error`` that says what went wrong.

    TensorFlow begins with "Graph execution error:" or "in user code:" and where, and ends with the cause.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if lines[0] in ("Graph execution error:", "in user code:"):
        told = [line for line in lines[1:] if not line.startswith(("[[", "Detected at", "Original stack", "File "))]
        return (told or lines)[-1][:longest]
    return lines[0][:longest]
