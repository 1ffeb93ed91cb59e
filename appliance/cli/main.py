"""`earwitness`: the command line. A client of the API, plus `serve` and `demo`."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from appliance.cli import output
from appliance.cli.commands import Commands
from appliance.cli.connection import Connection, default_data
from appliance.cli.exits import Exit, Failure, from_error, from_rpc
from appliance.model import EarwitnessError

app = typer.Typer(
    name="earwitness",
    cls=Commands,
    help="Call recording for hospitals: record, find, verify, erase.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command("demo")
def demo(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Keep the box's data in this (empty) directory.", show_default=False),
    ] = None,
) -> None:
    """Four calls with speech: recorded, listed, shown, verified, rendered; one erased; what was measured meanwhile."""
    from appliance.cli.demonstration.run import run

    raise typer.Exit(run(data))


def _version(wanted: bool) -> None:
    if wanted:
        output.console.print(f"earwitness {version('earwitness')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            envvar="EARWITNESS_DATA",
            help="Data directory of a box on this machine.",
            show_default=False,
        ),
    ] = None,
    server: Annotated[str, typer.Option(envvar="EARWITNESS_SERVER", help="host:port of the API.")] = "",
    ca: Annotated[
        Path | None, typer.Option(envvar="EARWITNESS_CA", help="The box's authority (PEM).")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(envvar="EARWITNESS_CERT", help="Client certificate (PEM).")
    ] = None,
    key: Annotated[Path | None, typer.Option(envvar="EARWITNESS_KEY", help="Client key (PEM).")] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="EARWITNESS_TOKEN_FILE", help="A token in a file, for the port that takes tokens."
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Options that every command of the client shares."""
    context.obj = Connection(data or default_data(), server, ca, cert, key, token_file)


# Typer carries a Click of its own, or uses the one installed, by its version: what both call ClickException is this.
_UsageError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def _misused(error: Any) -> int:
    """A command line that cannot be understood; a group without a command gets its help."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        output.console.print(
            error.format_message(), markup=False, end=""
        )  # nothing where it is shown already
        return Exit.USAGE
    hint = f"see `{context.command_path} --help`" if context is not None else ""
    return _fail(Failure(Exit.USAGE, error.format_message().rstrip("."), "USAGE", hint))


def _fail(failure: Failure) -> int:
    reason = f" [{failure.reason}]" if failure.reason else ""
    hint = f" ({failure.hint})" if failure.hint else ""
    message = " ".join(failure.message.split())
    output.errors.print(f"earwitness: {message}{reason}{hint}", markup=False)
    return failure.code


@functools.cache
def _commands() -> Any:
    return typer.main.get_command(app)


def run(arguments: list[str] | None = None) -> int:
    """Runs one command; gives its exit code. Every error is one line on standard error."""
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has not all characters shows the others
    debug = "--debug" in words
    try:
        code = _commands()(args=words, prog_name="earwitness", standalone_mode=False)
        return code if isinstance(code, int) else Exit.OK
    except typer.Exit as end:
        return end.exit_code
    except _UsageError as error:
        return _misused(error)
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except Failure as failure:
        return _fail(failure)
    except grpc.RpcError as error:
        if debug:
            raise
        return _fail(from_rpc(error))
    except EarwitnessError as error:
        if debug:
            raise
        return _fail(from_error(error))
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception as error:  # a fault of ours, told in one line as every error is
        if debug:
            raise
        return _fail(Failure(Exit.FAILED, f"{type(error).__name__}: {error}", "FAULT", "--debug says where"))


def main() -> None:
    """Entry point."""
    sys.exit(run())


if __name__ == "__main__":
    main()
