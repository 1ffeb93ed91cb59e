"""The box registers with a provider, proves itself to it and to a switchboard, and says where it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from provider import PASSWORD, Provider, Said
from signaling_kit import LINE, House, a_house, make_settings

from appliance.config.settings import Settings, SipAccount
from appliance.media.signaling.errors import AccountPasswordError
from appliance.media.signaling.inline import accounts
from appliance.media.signaling.inline.accounts import NOT_REGISTERED, PASSWORD_UNREADABLE, read_password
from appliance.media.sip.events import Answered, SessionEnded
from appliance.model.routing import InlineRules, Target

DOMAIN = "provider.example"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "RETRY_S", 0.05)
    monkeypatch.setattr(accounts, "MOST_RETRY_S", 0.2)
    monkeypatch.setattr(accounts, "LEAST_S", 0.05)


def account(root: Path, provider: Provider, password: str | None = PASSWORD, **more: Any) -> SipAccount:
    path = root / "password"
    if password is not None:
        path.write_text(f"{password}\nnot this line\n")
    values = {
        "domain": DOMAIN,
        "username": "box",
        "password_file": path,
        "register_uri": provider.uri,
        **more,
    }
    return SipAccount(**values)


def with_accounts(root: Path, *some: SipAccount) -> Settings:
    settings = make_settings(root / "data")
    return settings.model_copy(update={"sip": settings.sip.model_copy(update={"accounts": some})})


def message(house: House, kind: str) -> str:
    return next((one.message for one in house.signaling.child.status.conditions() if one.type == kind), "")


async def raised(house: House, kind: str, *, there: bool = True) -> None:
    async with asyncio.timeout(20):
        while (kind in house.conditions()) is not there:
            await asyncio.sleep(0.01)


def run(
    root: Path,
    scenario: Callable[[House, Provider], Awaitable[None]],
    *lines: Any,
    script: tuple[Said, ...] = (),
    password: str | None = PASSWORD,
    prepare: Callable[[Provider], None] = lambda provider: None,
    after: Callable[[Provider], None] = lambda provider: None,
    **more: Any,
) -> None:
    """`after`: once the box has stopped."""

    async def all_of_it() -> None:
        async with Provider() as provider:
            provider.script.extend(script)
            prepare(provider)
            settings = with_accounts(root, account(root, provider, password, **more))
            async with a_house(root, *lines, settings=settings) as house:
                await scenario(house, provider)
            after(provider)

    asyncio.run(all_of_it())


def test_it_registers_proves_itself_and_takes_it_back_at_the_end(tmp_path: Path) -> None:
    async def scenario(house: House, provider: Provider) -> None:
        await provider.until(lambda: provider.registers)
        await raised(house, NOT_REGISTERED, there=False)
        [request] = provider.registers
        assert str(request.to.uri) == f"sip:box@{DOMAIN}" == str(request.from_.uri)
        assert request.expires == 600
        host, port = house.address(next(iter(house.signaling.listeners)))
        assert request.contact is not None and str(request.contact.uri) == f"sip:box@{host}:{port}"
        assert PASSWORD.encode() not in request.serialize()

    def after(provider: Provider) -> None:
        assert provider.registers[-1].expires == 0 and len(provider.registers) == 2, "proved and let in, too"
        assert not provider.refused

    run(tmp_path, scenario, after=after)


def test_a_wrong_password_is_a_condition_until_it_is_mended(tmp_path: Path) -> None:
    async def scenario(house: House, provider: Provider) -> None:
        await raised(house, NOT_REGISTERED)
        assert message(house, NOT_REGISTERED).startswith(f"Not registered with {DOMAIN} (answered 401)")
        assert not provider.registers and provider.refused
        (tmp_path / "password").write_text(PASSWORD)
        await provider.until(lambda: provider.registers)
        await raised(house, NOT_REGISTERED, there=False)

    run(tmp_path, scenario, password="wrong")


def test_what_is_too_brief_for_the_registrar_is_asked_anew_at_once(tmp_path: Path) -> None:
    async def scenario(house: House, provider: Provider) -> None:
        await provider.until(lambda: provider.registers)
        assert [request.expires for request in provider.refused] == [600]
        assert provider.registers[0].expires == 1800
        assert NOT_REGISTERED not in house.conditions()

    run(tmp_path, scenario, script=(Said(423, (("Min-Expires", "1800"),)),))


@pytest.mark.parametrize("least", ["", "5", "99999999999", "x"])
def test_an_interval_that_makes_no_sense_is_a_failure(tmp_path: Path, least: str) -> None:
    async def scenario(house: House, provider: Provider) -> None:
        await provider.until(lambda: provider.registers)
        assert {request.expires for request in (*provider.refused, *provider.registers)} == {600}

    headers = (("Min-Expires", least),) if least else ()
    run(tmp_path, scenario, script=(Said(423, headers),))


def test_a_registrar_that_is_away_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float, *more: Any) -> None:
        waited.append(seconds)
        await sleep(seconds, *more)

    async def scenario(house: House, provider: Provider) -> None:
        monkeypatch.setattr(accounts.asyncio, "sleep", noted)
        await provider.until(lambda: len(provider.refused) == 1)
        await raised(house, NOT_REGISTERED)
        assert "answered 503" in message(house, NOT_REGISTERED)
        await provider.until(lambda: provider.registers)
        await raised(house, NOT_REGISTERED, there=False)
        # As long as they want to be left alone, but no longer than we ever wait.
        assert 0.2 in waited

    script = (Said(503), Said(503, (("Retry-After", "3600"),)), Said(503))
    run(tmp_path, scenario, script=script)


@pytest.mark.parametrize("in_contact", [True, False])
def test_what_is_granted_for_less_is_renewed_earlier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_contact: bool
) -> None:
    monkeypatch.setattr(accounts, "REFRESH", 0.001)

    async def scenario(house: House, provider: Provider) -> None:
        await provider.until(lambda: len(provider.registers) >= 3)

    def prepare(provider: Provider) -> None:
        provider.expires, provider.contact_params = 60, in_contact

    # 86,400 s as asked would be renewed after 86 s; 60 s are renewed after 60 ms.
    run(tmp_path, scenario, prepare=prepare, expires_s=86_400)


def test_where_nothing_answers_it_is_a_condition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "ANSWER_S", 0.2)

    async def scenario(house: House, provider: Provider) -> None:
        await raised(house, NOT_REGISTERED)
        assert f"{DOMAIN} (no answer)" in message(house, NOT_REGISTERED)

    run(tmp_path, scenario, register_uri="sip:127.0.0.1:9")


def test_a_registrar_that_cannot_be_named_is_a_condition(tmp_path: Path) -> None:
    async def scenario(house: House, provider: Provider) -> None:
        await raised(house, NOT_REGISTERED)

    run(tmp_path, scenario, register_uri="tel:123")


# -- passwords -----------------------------------------------------------------------------------------------------


def test_a_password_that_cannot_be_read_says_so_and_nothing_of_it_is_told(tmp_path: Path) -> None:
    secret = b"\xff\xfetop secret"

    async def scenario(house: House, provider: Provider) -> None:
        await raised(house, NOT_REGISTERED)
        assert DOMAIN in message(house, PASSWORD_UNREADABLE)
        (tmp_path / "password").write_text(PASSWORD)
        await provider.until(lambda: provider.registers)
        assert PASSWORD_UNREADABLE not in house.conditions()

    (tmp_path / "password").write_bytes(secret)
    with structlog.testing.capture_logs() as logs:
        run(tmp_path, scenario, password=None)
    told = [one for one in logs if one["event"] == "password of a SIP account unusable"]
    assert told and told[0]["domain"] == DOMAIN and told[0]["why"] == "cannot be read (UnicodeDecodeError)"
    everything = repr(logs)
    assert "top secret" not in everything and PASSWORD not in everything and "07700900123" not in everything


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\r\nsecond\n", b"x" * 1025])
def test_files_that_hold_no_password(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AccountPasswordError) as caught:
        read_password(SipAccount(domain=DOMAIN, username="box", password_file=path))
    assert caught.value.data == {"domain": DOMAIN} and caught.value.__cause__ is None
    path.write_bytes(b"x" * 1024 + b"\r\n")
    assert read_password(SipAccount(domain=DOMAIN, username="box", password_file=path)) == "x" * 1024


# -- calls ---------------------------------------------------------------------------------------------------------


def inline(inbound: str = "", outbound: str = "", **more: Any) -> Any:
    rules = InlineRules(
        inbound=(Target(uri=inbound),) if inbound else (),
        outbound=(Target(uri=outbound),) if outbound else (),
    )
    return LINE.model_copy(update={"inline": rules, **more})


def test_an_invite_is_proved_to_the_switchboard(tmp_path: Path) -> None:
    async def run_() -> None:
        async with Provider(realm="switchboard") as board, Provider(realm=None) as trunk:
            mine = account(tmp_path, board, domain="127.0.0.1", register_uri="")
            line = inline(board.uri)
            async with a_house(tmp_path, line, settings=with_accounts(tmp_path, mine)) as house:
                host, port = house.address(next(iter(house.signaling.listeners)))
                session = trunk.call(f"sip:01632960100@{host}:{port}")
                await trunk.until(lambda: any(isinstance(one, Answered) for one in trunk.events))
                [invite] = board.invites
                assert invite.uri.user == "01632960100" and "Proxy-Authorization" in invite.headers
                assert not board.refused
                with trunk.transports.acting() as now:
                    trunk.endpoint.bye(session, now=now)
                await board.until(lambda: any(isinstance(one, SessionEnded) for one in board.events))

    asyncio.run(run_())


@pytest.mark.parametrize(
    ("realm", "password", "answered"),
    [("", PASSWORD, True), ("trunk", PASSWORD, True), ("elsewhere", PASSWORD, False), ("", "wrong", False)],
)
def test_an_invite_is_proved_to_the_trunk(tmp_path: Path, realm: str, password: str, answered: bool) -> None:
    async def run_() -> None:
        async with Provider(realm="trunk") as trunk, Provider(realm=None) as board:
            mine = account(tmp_path, trunk, password, domain="127.0.0.1", register_uri="", realm=realm)
            line = inline(board.uri, trunk.uri)
            async with a_house(tmp_path, line, settings=with_accounts(tmp_path, mine)) as house:
                host, port = house.address(next(iter(house.signaling.listeners)))
                board.call(f"sip:07700900999@{host}:{port}", from_="<sip:01632960100@pbx.example>")
                await board.until(
                    lambda: any(isinstance(one, Answered | SessionEnded) for one in board.events)
                )
                ended = [one for one in board.events if isinstance(one, SessionEnded)]
                assert bool(trunk.invites) is answered and bool(ended) is not answered
                if not answered:
                    assert not trunk.calls
                    assert len(trunk.refused) == (1 if password != PASSWORD else 0), (
                        "asked once, not for ever"
                    )

    asyncio.run(run_())


@pytest.mark.parametrize("username", ["box", "01632960777"])
def test_a_call_to_the_registered_contact_finds_its_line(tmp_path: Path, username: str) -> None:
    """The Request-URI is what was registered; the number stands in To, also where the account has a number as its name."""

    async def run_() -> None:
        async with Provider(user=username) as provider, Provider(realm=None) as board:
            pilot = inline(
                "sip:192.0.2.9", line_id="a" * 26, numbers=("01632960777",), display_name="Switchboard"
            )
            mine = account(tmp_path, provider, username=username)
            settings = with_accounts(tmp_path, mine)
            async with a_house(tmp_path, pilot, inline(board.uri), settings=settings) as house:
                contact = await provider.until(lambda: provider.contact)
                assert contact.startswith(f"sip:{username}@")
                provider.call(contact, to="<sip:01632960100@provider.example>")
                await provider.until(lambda: any(isinstance(one, Answered) for one in provider.events))
                [invite] = board.invites
                assert invite.uri.user == "01632960100", "the switchboard is told the number, not the account"
                [call] = house.signaling.board.listing()
                assert call.line_id == LINE.line_id
                assert call.parties[0].aor == "sip:07700900123@provider.example"

    asyncio.run(run_())
