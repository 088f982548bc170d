"""The child's end of `interpreter`: run one module of this package under whichever Python runs this file.

It is run by its path, so that the package need not be installed there, and finds the package without
its folder on ``sys.path``, where the libraries beside it would come along.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys

_OLDEST = (3, 10)


def main() -> None:
    """Run the module that the first argument names, with the others as its own."""
    if sys.version_info < _OLDEST:
        sys.exit("Python %d.%d is too old: trt_pipeline needs 3.10 or newer" % sys.version_info[:2])  # noqa: UP031
    here = os.path.dirname(os.path.realpath(__file__))
    # As `python -m` has it: modules that the user names lie in the working directory.
    sys.path[:] = [os.getcwd(), *(entry for entry in sys.path if os.path.realpath(entry) != here)]
    spec = importlib.util.spec_from_file_location("trt_pipeline", os.path.join(here, "__init__.py"))
    assert spec is not None
    # Made and not executed: it imports what users want and workers do without.
    sys.modules["trt_pipeline"] = importlib.util.module_from_spec(spec)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
