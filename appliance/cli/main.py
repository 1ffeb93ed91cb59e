"""`earwitness`: the command line. A client of the API, plus `serve` and `demo`."""

from __future__ import annotations

import contextlib
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import click
import grpc
import typer

from appliance.cli import box, calls, events, output, recordings, serve, tenants
from appliance.cli.connection import Connection, default_data
from appliance.cli.exits import Exit, Failure, from_error, from_rpc
from appliance.model import EarwitnessError

app = typer.Typer(
    name="earwitness",
    help="Call recording for hospitals: record, find, verify, erase.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(calls.app, name="calls")
app.add_typer(recordings.app, name="recordings")
app.add_typer(tenants.tenants, name="tenants")
app.add_typer(tenants.lines, name="lines")
app.add_typer(events.app, name="events")
app.add_typer(box.app, name="box")
app.command("serve")(serve.serve)


@app.command("demo")
def demo(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Keep the box's data in this (empty) directory.", show_default=False),
    ] = None,
) -> None:
    """Three calls with speech: recorded, listed, shown, verified, rendered; one erased for good."""
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
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Options that every command of the client shares."""
    context.obj = Connection(data or default_data(), server, ca, cert, key)


def _fail(failure: Failure) -> int:
    reason = f" [{failure.reason}]" if failure.reason else ""
    hint = f" ({failure.hint})" if failure.hint else ""
    output.errors.print(f"earwitness: {failure.message}{reason}{hint}", markup=False)
    return failure.code


def run(arguments: list[str] | None = None) -> int:
    """Runs one command; gives its exit code. Every error is one line on standard error."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    try:
        code = app(args=words, prog_name="earwitness", standalone_mode=False)
        return code if isinstance(code, int) else Exit.OK
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except (KeyboardInterrupt, click.exceptions.Abort):
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


def main() -> None:
    """Entry point."""
    sys.exit(run())


if __name__ == "__main__":
    main()
