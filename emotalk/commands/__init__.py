"""The `emotalk` program: its commands, and the boundary where known failures become one line and an exit code."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import typer.core

from .. import __version__
from ..device import is_out_of_memory
from ..errors import DeviceError, EmotalkError
from .evaluate import evaluate
from .generate import generate
from .interpolate_intensity import interpolate_intensity
from .output import report, show
from .prepare import prepare
from .train import train

INTERRUPTED = 130


class Commands(typer.core.TyperGroup):
    """The group of all commands; known errors end here, bugs keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; one line on stderr and an exit code for what is known to go wrong."""
        try:
            return super().invoke(ctx)
        except EmotalkError as error:
            report(str(error))
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            report("interrupted")
            raise typer.Exit(INTERRUPTED) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            report("out of memory; close other programs, take a smaller picture, or use another --device")
            raise typer.Exit(DeviceError.exit_code) from error


app = typer.Typer(
    name="emotalk",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        show({}, __version__, as_json=False)
        raise typer.Exit


@app.callback()
def emotalk(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One photograph, one recording, one emotion: a talking video, offline."""


app.command()(generate)
app.command()(interpolate_intensity)
app.command()(evaluate)
app.command()(prepare)
app.add_typer(train, name="train")


def main() -> None:
    """Run the program."""
    app(prog_name="emotalk")
