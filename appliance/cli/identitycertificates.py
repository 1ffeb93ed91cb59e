"""`earwitness identities issue`, `renew` and `revoke`: certificates, whose keys stay here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import grpc
import typer
from google.protobuf.duration_pb2 import Duration

from appliance.cli import files, output
from appliance.cli.certificaterequests import key_and_request
from appliance.cli.confirm import confirm
from appliance.cli.connection import bare, identity
from appliance.cli.context import CALL_TIMEOUT_S, Box, JsonOption, YesOption, box
from appliance.cli.exits import Exit, Failure, from_rpc
from earwitness import pages
from earwitness.v1 import access_pb2 as pb

NameArgument = Annotated[str, typer.Argument(help="NAME of the box or of your own tenant, or TENANT/NAME.")]
DaysOption = Annotated[int | None, typer.Option("--days", min=1, max=825, help="How long it shall hold.")]


def issue(
    context: typer.Context,
    name: NameArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where NAME.crt and NAME.key go. [default: here]")
    ] = None,
    request_file: Annotated[
        Path | None,
        typer.Option("--request", help="A certificate request (PEM) instead: its key stays where it is."),
    ] = None,
    days: DaysOption = None,
    json: JsonOption = False,
) -> None:
    """Issue a certificate. The key is made here, mode 0600, and never sent."""
    if request_file is not None:
        key_pem, csr = None, _read(request_file)
    else:
        key_pem, csr = key_and_request(bare(identity(name)))
    request = pb.IssueCertificateRequest(
        parent=identity(name), certificate_request=csr, lifetime=_lifetime(days)
    )
    with box(context) as services:
        _keep(
            _place(out, bare(identity(name)), csr),
            key_pem,
            lambda: services.access.IssueCertificate(request, timeout=CALL_TIMEOUT_S).certificate,
            json,
        )


def renew(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where NAME.crt and NAME.key go. [default: here]")
    ] = None,
    days: DaysOption = None,
    json: JsonOption = False,
) -> None:
    """A new certificate and key of your own, by the certificate you come with (--cert, --key), while it is valid."""
    with box(context) as services:
        who = services.access.GetCaller(pb.GetCallerRequest(), timeout=CALL_TIMEOUT_S).identity
        key_pem, csr = key_and_request(bare(who.name))
        request = pb.RenewCertificateRequest(certificate_request=csr, lifetime=_lifetime(days))
        _keep(
            _place(out, bare(who.name), csr),
            key_pem,
            lambda: services.access.RenewCertificate(request, timeout=CALL_TIMEOUT_S).certificate,
            json,
        )


def revoke(
    context: typer.Context,
    name: NameArgument,
    fingerprint: Annotated[str, typer.Argument(help="Of the certificate, or its beginning; `all` for all.")],
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Take a certificate out of use at once, with all that were renewed from it."""
    with box(context) as services:
        alive = [one for one in certificates_of(services, identity(name)) if not one.HasField("revoke_time")]
        chosen = [one for one in alive if fingerprint == "all" or bare(one.name).startswith(fingerprint)]
        if not chosen or (len(chosen) > 1 and fingerprint != "all"):
            what = "no certificate in use begins so" if not chosen else "several certificates begin so"
            raise Failure(
                Exit.NOT_FOUND, what, "CERTIFICATE_NOT_FOUND", f"see `earwitness identities show {name}`"
            )
        if not yes:
            confirm(f"{output.count(len(chosen), 'certificate')} of {name} out of use; type the name", name)
        done = [
            services.access.RevokeCertificate(
                pb.RevokeCertificateRequest(name=one.name), timeout=CALL_TIMEOUT_S
            ).certificate
            for one in chosen
        ]
    if json:
        output.print_json({"certificates": [output.as_dict(one) for one in done]})
    else:
        output.console.print(f"{output.count(len(done), 'certificate')} revoked")


def certificates_of(services: Box, name: str) -> list[pb.ClientCertificate]:
    request = pb.ListCertificatesRequest(parent=name, page_size=500)
    found: list[pb.ClientCertificate] = []
    for answer in pages(services.access.ListCertificates, request, timeout=CALL_TIMEOUT_S):
        found += answer.certificates
    return found


def _lifetime(days: int | None) -> Duration | None:
    return None if days is None else Duration(seconds=days * 86400)


def _place(folder: Path | None, name: str, request: bytes) -> Path:
    """Where certificate and key go, without the ending; what is there already stays."""
    files.make_folder(folder or Path())
    found = (folder or Path()) / name
    if any(one.exists() for one in (_key(found), _certificate(found))):
        found = found.with_name(f"{name}-{hashlib.sha256(request).hexdigest()[:8]}")
    return found


def _key(place: Path) -> Path:
    return place.with_name(f"{place.name}.key")


def _certificate(place: Path) -> Path:
    return place.with_name(f"{place.name}.crt")


def _keep(place: Path, key_pem: bytes | None, ask: Callable[[], pb.ClientCertificate], json: bool) -> None:
    """Writes the key, gets its certificate, and writes that: no certificate is issued whose key could not be kept."""
    key = _key(place) if key_pem is not None else None
    if key is not None and key_pem is not None:
        files.write_new(key, key_pem)
    try:
        made = ask()
    except grpc.RpcError as error:
        if key is None:
            raise
        failure = from_rpc(error)
        if failure.reason in ("", "CONNECTION_CLOSED"):
            # It may have been issued, and only the answer be lost.
            failure.hint = f"its key is in {key}, should it have been issued all the same; {failure.hint}"
            raise failure from error
        key.unlink()
        raise
    path = _certificate(place)
    files.write_new(path, made.pem.encode(), 0o644)
    if json:
        output.print_json(
            {
                "certificate": output.as_dict(made),
                "path": os.fspath(path),
                "key": None if key is None else os.fspath(key),
            }
        )
    else:
        output.console.print(f"{path}, good until {output.when(made.expire_time)}", markup=False)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(Exit.USAGE, f"cannot read {path}: {error.strerror}", "REQUEST_UNREADABLE") from error
