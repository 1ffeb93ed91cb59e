"""`earwitness keys`: who opens a tenant's recordings, and unlocking them."""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from appliance.cli import grantkeys, output
from appliance.cli.confirm import confirm
from appliance.cli.connection import resource
from appliance.cli.context import CALL_TIMEOUT_S, DryOption, JsonOption, YesOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.secretinput import Secrets
from appliance.model import new_id
from earwitness import pages
from earwitness.v1 import keys_pb2 as pb
from earwitness.v1 import tenants_pb2

app = typer.Typer(
    help="Keys of tenants: who opens the recordings. Show, mode, unlock, lock, passphrase.",
    no_args_is_help=True,
)

app.command("pair")(grantkeys.pair)
app.command("open")(grantkeys.open_recording)

SLOW_S = 200.0  # trying a passphrase, and rewriting the keystore
_MODES = {"auto": pb.KEY_MODE_AUTO, "attended": pb.KEY_MODE_ATTENDED}
_MODE_WORDS = {mode: word for word, mode in _MODES.items()}
_STATES = {
    pb.KEY_STATE_OPEN: "open to the box",
    pb.KEY_STATE_UNLOCKED: "unlocked",
    pb.KEY_STATE_LOCKED: "locked: recording goes on, reading waits",
}
_UNITS = {"m": 60, "h": 3600}

TenantArgument = Annotated[str, typer.Argument(help="The tenant (name or id).")]
FdOption = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd",
        help="Read passphrases from this file descriptor, one a line, rather than asking.",
        show_default=False,
    ),
]
RecoveryOption = Annotated[
    bool, typer.Option("--recovery-key", help="Ask for the recovery key in place of the passphrase.")
]


def _name(tenant: str) -> str:
    return f"{resource('tenants', tenant)}/keys"


@app.command("show")
def show(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="The tenant (name or id); absent: all.")] = "",
    json: JsonOption = False,
) -> None:
    """How keys stand."""
    with box(context) as services:
        if tenant:
            names = [_name(tenant)]
        else:
            names = []
            request = tenants_pb2.ListTenantsRequest(page_size=500)
            for page in pages(services.tenants.ListTenants, request, timeout=CALL_TIMEOUT_S):
                names += [f"{one.name}/keys" for one in page.tenants]
        found = [
            services.keys.GetTenantKeys(pb.GetTenantKeysRequest(name=one), timeout=CALL_TIMEOUT_S).keys
            for one in names
        ]
    if json:
        output.print_json({"keys": [output.as_dict(one) for one in found]})
        return
    rows = (
        (
            one.name.split("/")[1],
            _MODE_WORDS[one.mode],
            _STATES[one.state],
            output.when(one.unlock_expire_time) if one.HasField("unlock_expire_time") else "",
        )
        for one in found
    )
    output.table(("Tenant", "Mode", "State", "Until"), rows, empty="No tenant.")


@app.command("mode")
def mode(
    context: typer.Context,
    tenant: TenantArgument,
    mode: Annotated[str, typer.Argument(help="auto: the box opens them; attended: the passphrase does.")],
    passphrase_fd: FdOption = None,
    recovery_key: RecoveryOption = False,
    validate_only: DryOption = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Turn a tenant's keys over to its own passphrase, or back to the box."""
    if mode not in _MODES:
        raise Failure(Exit.USAGE, f"{mode!r} is neither auto nor attended", "OPTION_INVALID")
    attended = mode == "attended"
    if attended and recovery_key:
        raise Failure(Exit.USAGE, "the recovery key is made by this, and shown", "OPTION_INVALID")
    if not (yes or validate_only):
        warning = (
            "Whoever loses both the passphrase and the recovery key loses these recordings for good. Type attended"
            if attended
            else "From then on the box opens these recordings by itself. Type auto"
        )
        confirm(warning, mode)
    secrets = Secrets(passphrase_fd)
    said = secrets.ask("Recovery key" if recovery_key else "Passphrase", twice=attended)
    request = pb.SetKeyModeRequest(
        name=_name(tenant),
        mode=_MODES[mode],
        passphrase="" if recovery_key else said,
        recovery_key=said if recovery_key else "",
        validate_only=validate_only,
        request_id=new_id(),
    )
    with box(context) as services:
        answer = services.keys.SetKeyMode(request, timeout=SLOW_S)
    _told(answer.keys, answer.recovery_key, json)


@app.command("unlock")
def unlock(
    context: typer.Context,
    tenant: TenantArgument,
    how_long: Annotated[str, typer.Option("--for", help="Such as 30m or 8h; at most 24h.")] = "8h",
    passphrase_fd: FdOption = None,
    recovery_key: RecoveryOption = False,
    json: JsonOption = False,
) -> None:
    """Unlock a tenant's keys for a while: reading goes on."""
    duration = Duration(seconds=_seconds(how_long))
    said = Secrets(passphrase_fd).ask("Recovery key" if recovery_key else "Passphrase")
    request = pb.UnlockTenantRequest(
        name=_name(tenant),
        passphrase="" if recovery_key else said,
        recovery_key=said if recovery_key else "",
        duration=duration,
    )
    with box(context) as services:
        keys = services.keys.UnlockTenant(request, timeout=SLOW_S).keys
    _told(keys, "", json)


@app.command("lock")
def lock(context: typer.Context, tenant: TenantArgument, json: JsonOption = False) -> None:
    """Lock a tenant's keys at once. Readings that are under way end."""
    with box(context) as services:
        request = pb.LockTenantRequest(name=_name(tenant))
        keys = services.keys.LockTenant(request, timeout=CALL_TIMEOUT_S).keys
    _told(keys, "", json)


@app.command("passphrase")
def passphrase(
    context: typer.Context,
    tenant: TenantArgument,
    renew_recovery_key: Annotated[
        bool,
        typer.Option(
            "--renew-recovery-key", help="Make a new recovery key; the old one opens nothing any more."
        ),
    ] = False,
    passphrase_fd: FdOption = None,
    recovery_key: RecoveryOption = False,
    json: JsonOption = False,
) -> None:
    """Change a tenant's passphrase. On a descriptor: the present one, then the new one."""
    secrets = Secrets(passphrase_fd)
    now = secrets.ask("Recovery key" if recovery_key else "Passphrase")
    request = pb.ChangeTenantPassphraseRequest(
        name=_name(tenant),
        passphrase="" if recovery_key else now,
        recovery_key=now if recovery_key else "",
        new_passphrase=secrets.ask("New passphrase", twice=True),
        renew_recovery_key=renew_recovery_key,
        request_id=new_id(),
    )
    with box(context) as services:
        answer = services.keys.ChangeTenantPassphrase(request, timeout=SLOW_S)
    _told(answer.keys, answer.recovery_key, json)


def _seconds(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdigit()) or len(number) > 4:
        raise Failure(Exit.USAGE, f"--for: {text!r} is no time such as 30m or 8h", "OPTION_INVALID")
    return int(number) * _UNITS[unit]


def _told(keys: pb.TenantKeys, recovery_key: str, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(keys) | ({"recoveryKey": recovery_key} if recovery_key else {}))
        return
    until = output.when(keys.unlock_expire_time) if keys.HasField("unlock_expire_time") else ""
    output.facts(
        (
            ("Tenant", keys.name.split("/")[1]),
            ("Mode", _MODE_WORDS[keys.mode]),
            ("State", _STATES[keys.state]),
            ("Until", until),
            ("Recovery key", recovery_key),
        )
    )
    if recovery_key:
        output.errors.print(
            "Write the recovery key down and keep it apart from the box: it is shown this once.", markup=False
        )
