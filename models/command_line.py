"""The command line of the recipes that write samples."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def write_to_out(description: str | None, write: Callable[[Path], None]) -> None:
    """Have ``write`` write into the folder that ``--out`` names."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    write(parser.parse_args().out)
