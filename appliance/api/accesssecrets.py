"""The half of AccessService that is about passphrases, subjects of the identity provider, and sessions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from appliance.access import credentials, register, rights, secondfactor, sessions
from appliance.access.refusals import OwnSessionNeededError, SessionNotFoundError
from appliance.access.register import Entry
from appliance.access.sessions import Session
from appliance.api import accessview, convert, gate, identitynames
from appliance.api.accessbase import AccessBase
from appliance.api.bearers import current_session
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import check_text
from appliance.api.scope import caller
from appliance.catalog.errors import EtagMismatchError
from earwitness.v1 import access_pb2 as pb

Result = TypeVar("Result")
MOST_TYPED: Final = 1000  # letters of a passphrase or code that are looked at


class Secrets(AccessBase):
    """See access.proto."""

    async def AddSubject(self, request: pb.AddSubjectRequest, context: Any) -> pb.AddSubjectResponse:
        name, (issuer, subject) = identitynames.read(request.name), self._subject(request.subject)
        now_ns = self._parts.clock_ns()

        def change(connection: sa.Connection) -> Entry:
            entry = self._managed(connection, name)
            credentials.add_subject(connection, name, issuer, subject, now_ns)
            return entry

        return pb.AddSubjectResponse(identity=await self._change("AddSubject", request, name, change))

    async def RemoveSubject(self, request: pb.RemoveSubjectRequest, context: Any) -> pb.RemoveSubjectResponse:
        name = identitynames.read(request.name)
        issuer, subject = request.subject.issuer, request.subject.subject

        def change(connection: sa.Connection) -> Entry:
            entry = self._managed(connection, name)
            credentials.remove_subject(connection, name, issuer, subject)
            return entry

        return pb.RemoveSubjectResponse(identity=await self._change("RemoveSubject", request, name, change))

    async def ResetPassphrase(
        self, request: pb.ResetPassphraseRequest, context: Any
    ) -> pb.ResetPassphraseResponse:
        name = identitynames.read(request.name)
        now_ns = self._parts.clock_ns()
        code = secondfactor.recovery_codes()[0]

        def reset(connection: sa.Connection) -> Entry:
            entry = self._managed(connection, name)
            if request.etag not in ("", entry.etag):
                raise EtagMismatchError("the identity changed since", field="etag")
            credentials.reset(connection, name, secondfactor.recovery_hash(code), now_ns)
            sessions.end_all(connection, name)
            return entry

        until = convert.timestamp(now_ns + credentials.ENROL_NS)
        if request.validate_only:
            await self._tried(reset)
            return pb.ResetPassphraseResponse(expire_time=until)

        def work(connection: sa.Connection) -> tuple[None, Collection[str]]:
            reset(connection)
            return None, [name]

        await self._roll.change(work)
        return pb.ResetPassphraseResponse(enrolment_code=code, expire_time=until)

    async def EnrolPassphrase(
        self, request: pb.EnrolPassphraseRequest, context: Any
    ) -> pb.EnrolPassphraseResponse:
        name = identitynames.read_stranger(request.name)
        code = _typed(request.enrolment_code, "enrolment_code")
        factor = await self._sign_ins.enrol(
            name, code, _typed(request.passphrase, "passphrase"), gate.current().presented.network
        )
        await gate.write_down("enrolled", who=name)
        return pb.EnrolPassphraseResponse(totp_uri=factor.uri, recovery_codes=factor.recovery_codes)

    async def ChangePassphrase(
        self, request: pb.ChangePassphraseRequest, context: Any
    ) -> pb.ChangePassphraseResponse:
        if not request.new_passphrase and not request.new_totp:
            raise FieldInvalidError("say what shall be new: this, or new_totp", field="new_passphrase")
        factor = await self._sign_ins.replace(
            caller().name,
            _typed(request.passphrase, "passphrase"),
            _typed(request.code, "code"),
            _typed(request.new_passphrase, "new_passphrase"),
            request.new_totp,
            gate.current().presented.network,
        )
        if factor is None:
            return pb.ChangePassphraseResponse()
        return pb.ChangePassphraseResponse(totp_uri=factor.uri, recovery_codes=factor.recovery_codes)

    async def SignIn(self, request: pb.SignInRequest, context: Any) -> pb.SignInResponse:
        name = identitynames.read_stranger(request.name)
        token, session, left = await self._sign_ins.sign_in(
            name,
            _typed(request.passphrase, "passphrase"),
            _typed(request.code, "code"),
            gate.current().presented.network,
        )
        await gate.write_down("signed-in", who=name)  # a token that is not in the audit is given to nobody
        return pb.SignInResponse(token=token, session=accessview.session(session), recovery_codes_left=left)

    async def SignOut(self, request: pb.SignOutRequest, context: Any) -> pb.SignOutResponse:
        session = current_session()
        if session is None:
            raise OwnSessionNeededError("the call comes with no session that could end")
        await self._end(session.name, session.id)
        return pb.SignOutResponse()

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Any) -> pb.ListSessionsResponse:
        name = identitynames.read(request.parent, "parent")
        page = Page(self._parts, "ListSessions", request, (str,))
        size = page.size
        after = page.after[0] if page.after else ""

        def work(connection: sa.Connection) -> list[Session]:
            self._seen(connection, name)
            return sessions.of(connection, name, self._parts.clock_ns())

        found = sorted(await self._parts.store.read(work), key=_place)
        found = [one for one in found if _place(one) > after]
        answer = pb.ListSessionsResponse(sessions=[accessview.session(row) for row in found[:size]])
        size = page.cut(answer.sessions)
        if len(found) > size:
            answer.next_page_token = page.token(_place(found[size - 1]))
        return answer

    async def RevokeSession(self, request: pb.RevokeSessionRequest, context: Any) -> pb.RevokeSessionResponse:
        name, session_id = identitynames.read_session(request.name)

        def check(connection: sa.Connection) -> None:
            entry = register.find(connection, name)
            target = None if entry is None else register.target(connection, entry)
            if target is None or not rights.sees(caller(), target):
                raise SessionNotFoundError("no such session")
            if name != caller().name:
                rights.check_manages(caller(), target)

        await self._parts.store.read(check)
        await self._end(name, session_id)
        return pb.RevokeSessionResponse()

    async def _end(self, name: str, session_id: str) -> None:
        await self._parts.store.write(lambda connection: sessions.end(connection, name, session_id))
        self._roll.changed.notify()  # its streams end

    def _subject(self, said: pb.ProviderSubject) -> tuple[str, str]:
        known = [one.issuer for one in self._parts.settings.access.oidc]
        if said.issuer not in known:
            raise FieldInvalidError(
                "should be the issuer of a provider in the site file", field="subject.issuer"
            )
        return said.issuer, check_text(said.subject, "subject.subject", 255, 1)


def _typed(text: str, field: str) -> str:
    """What somebody typed, bounded; what is wrong with it is not repeated."""
    if len(text) > MOST_TYPED:
        raise FieldInvalidError(f"should have at most {MOST_TYPED} characters", field=field)
    return text


def _place(session: Session) -> str:
    return f"{session.create_ns:020}{session.id}"
