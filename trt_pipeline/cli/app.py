"""The application that every command of this package registers with."""

from __future__ import annotations

import typer

app = typer.Typer(help="Publish the fastest version of a SavedModel that still says what the original said.",
                  add_completion=False, no_args_is_help=True,
                  pretty_exceptions_enable=False, rich_markup_mode=None,
                  context_settings={"help_option_names": ["-h", "--help"]})
