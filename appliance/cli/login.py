"""`earwitness login` and `logout`: a session by passphrase and second factor, kept for the commands that follow."""

from __future__ import annotations

import sys
from typing import Annotated

import grpc
import typer

from appliance.cli import logins, output
from appliance.cli.connection import Connection, identity, typed_identity
from appliance.cli.context import CALL_TIMEOUT_S, JsonOption
from appliance.cli.exits import Exit, Failure
from appliance.cli.secretinput import Secrets
from earwitness.v1 import access_pb2 as pb
from earwitness.v1 import access_pb2_grpc

FdOption = Annotated[
    int | None,
    typer.Option("--passphrase-fd", help="Read what is asked for from this file descriptor, a line each."),
]


def login(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Your identity: NAME of the box, TENANT/NAME of a tenant.")],
    passphrase_fd: FdOption = None,
    enrol: Annotated[
        bool, typer.Option("--enrol", help="The first time: with the enrolment code you were given.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Sign in at the box's port for tokens. The session is kept, mode 0600, and used by every command until it ends.

    For another box: `earwitness --server HOST:PORT --ca CA.CRT login NAME`, and then `earwitness --server HOST:PORT …`.
    """
    connection: Connection = context.obj
    secrets = Secrets(passphrase_fd)
    server, authority = connection.token_server(), connection.authority()
    with connection.bare_channel() as channel:
        stub = access_pb2_grpc.AccessServiceStub(channel)
        if enrol:
            passphrase = _enrol(stub, name, secrets)
        else:
            passphrase = secrets.ask("Passphrase")
        code = secrets.ask("Code of your authenticator, or a recovery code")
        answer = stub.SignIn(
            pb.SignInRequest(name=identity(name), passphrase=passphrase, code=code), timeout=CALL_TIMEOUT_S
        )
    kept = logins.Login(
        server,
        typed_identity(identity(name)),
        answer.token,
        authority.decode(),
        answer.session.expire_time.seconds,
    )
    logins.keep(kept)
    if json:
        output.print_json(
            {"session": output.as_dict(answer.session), "recoveryCodesLeft": answer.recovery_codes_left}
        )
        return
    until = output.when(answer.session.expire_time)
    output.console.print(f"signed in as {kept.name} at {server} until {until}", markup=False)
    if answer.recovery_codes_left < 3:
        left = output.count(answer.recovery_codes_left, "recovery code")
        output.errors.print(f"{left} left: `earwitness identities totp` makes new ones", markup=False)


def logout(context: typer.Context) -> None:
    """End the session at the box, and forget it here."""
    connection: Connection = context.obj
    server = connection.token_server()
    try:
        kept = logins.find(server)
    except Failure as failure:
        if failure.reason != "LOGIN_OVER":
            raise
        logins.forget(server)  # over at the box as well
        return
    if kept is None:
        raise Failure(Exit.NOT_FOUND, f"no login at {server} is kept", "NO_LOGIN")
    try:
        with connection.channel() as channel:
            access_pb2_grpc.AccessServiceStub(channel).SignOut(pb.SignOutRequest(), timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        if not isinstance(error, grpc.Call) or error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            raise  # still good at the box, so it is not forgotten here
    logins.forget(server)


def _enrol(stub: access_pb2_grpc.AccessServiceStub, name: str, secrets: Secrets) -> str:
    code = secrets.ask("Enrolment code")
    passphrase = secrets.ask("Your passphrase, twelve characters or more", twice=True)
    answer = stub.EnrolPassphrase(
        pb.EnrolPassphraseRequest(name=identity(name), enrolment_code=code, passphrase=passphrase),
        timeout=CALL_TIMEOUT_S,
    )
    show_factor(answer.totp_uri, list(answer.recovery_codes))
    return passphrase


def show_factor(uri: str, recovery_codes: list[str]) -> None:
    """The second factor as a QR code and as text, with the recovery codes. On standard error: it is no result."""
    import segno

    if output.errors.is_terminal:
        segno.make(uri, error="m").terminal(out=sys.stderr, compact=True)
    output.errors.print(f"Scan this with your authenticator, or type it in:\n{uri}", markup=False)
    output.errors.print(
        "Recovery codes, each good once; keep them apart from the authenticator:", markup=False
    )
    for code in recovery_codes:
        output.errors.print(f"  {code}", markup=False)
