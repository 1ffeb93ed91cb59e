"""`earwitness serve`: the box in its embedded default."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.cli.connection import Connection
from appliance.config.settings import load


def serve(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Data directory; made where it is not there.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Site file (TOML); options go before it.")
    ] = None,
    sip_address: Annotated[str | None, typer.Option(help="Address for SIP. [default: 127.0.0.1]")] = None,
    sip_port: Annotated[
        int | None, typer.Option(help="UDP and TCP port for SIP. [default: 5060; 0: any]")
    ] = None,
    sips_port: Annotated[
        int | None, typer.Option(help="TLS port for SIP. [default: 5061; 0: any; -1: none]")
    ] = None,
    media_address: Annotated[str | None, typer.Option(help="Address for RTP. [default: 127.0.0.1]")] = None,
    media_ports: Annotated[str | None, typer.Option(help="Ports for RTP. [default: 16384-32767]")] = None,
    advertise: Annotated[
        str | None, typer.Option(help="Address told to peers in Contact and SDP, where it is another one.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Capture workers. [default: one a core]")] = None,
    api_address: Annotated[
        str | None, typer.Option(help="Address for the gRPC API. [default: 127.0.0.1]")
    ] = None,
    api_port: Annotated[
        int | None, typer.Option(help="Port for the gRPC API. [default: 7443; 0: any]")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. [default: info]")
    ] = None,
) -> None:
    """Run the box: record SIPREC calls, keep them sealed, serve the gRPC API. Stops cleanly on SIGTERM.

    One line is printed when it is ready. Point any SIPREC client at the SIP address and any gRPC client at the API;
    client certificate and authority are in the data directory under pki/.
    """
    from appliance.process.supervisor import run

    media: dict[str, Any] = {"address": media_address, "workers": workers, "advertised_address": advertise}
    if media_ports is not None:
        low, _, high = media_ports.partition("-")
        media |= {"port_min": low, "port_max": high or low}
    connection: Connection = context.obj
    overrides = {
        "sip": {
            "address": sip_address,
            "udp_port": sip_port,
            "tcp_port": sip_port,
            "tls_port": sips_port,
            "advertised_address": advertise,
        },
        "media": media,
        "api": {"address": api_address, "port": api_port},
        "log_level": log_level,
        "data": data,
    }
    settings = load(config, overrides, default_data=connection.data)
    _allow_sockets()
    raise typer.Exit(run(settings))


def _allow_sockets() -> None:
    """Raises the soft limit of open files to the hard one: the supervisor keeps every socket of capture.

    A login shell's soft limit is 1024, which a few hundred calls would use up.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
