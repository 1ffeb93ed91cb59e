"""AccessService: identities and their certificates. Passphrases, subjects and sessions are in `accesssecrets`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import identities, issued, naming, pki, register, requested, rights
from appliance.access.identities import Role
from appliance.access.issued import Certificate
from appliance.access.refusals import IdentityReservedError, OwnCertificateNeededError
from appliance.access.register import Entry
from appliance.api import accessview, gate, identitynames, names
from appliance.api.accesssecrets import Secrets
from appliance.api.bearers import current_session
from appliance.api.pages import Page
from appliance.api.parts import Note
from appliance.api.scope import caller
from appliance.catalog import tenants
from earwitness.v1 import access_pb2 as pb

_OLD_CERTIFICATE: Final = timedelta(days=1)  # a certificate from before certificates were kept whole


class Access(Secrets):
    """See access.proto."""

    async def CreateIdentity(
        self, request: pb.CreateIdentityRequest, context: Any
    ) -> pb.CreateIdentityResponse:
        asked, who = request.identity, caller()
        tenant_id, bare = identitynames.read_new(
            asked.name, names.one_tenant(asked.tenant, "identity.tenant") if asked.tenant else ""
        )
        name, roles = naming.key(tenant_id, bare), accessview.roles(asked.roles)
        rights.check_form(bare, tenant_id, roles, asked.agent_number)
        entry = Entry(name, roles, tenant_id, asked.agent_number, self._parts.clock_ns(), who.name)

        def add(connection: sa.Connection) -> Entry:
            if tenant_id:
                tenants.get_tenant(connection, tenant_id)
            # Counted only for who may make the first one: a tenant has thousands of identities.
            first = not rights.manages(who, entry.target)
            rights.check_makes(
                who, entry.target, register.administrators(connection, tenant_id) if first else 0
            )
            register.add(connection, entry)
            return entry

        if request.validate_only:
            return pb.CreateIdentityResponse(identity=accessview.entry(await self._tried(add)))
        gate.concern(tenant_id)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> tuple[str, Collection[str]]:
                add(connection)
                note(connection, name)
                return name, [name]

            return await self._roll.change(work)

        await self._parts.once("CreateIdentity", request, act)
        return pb.CreateIdentityResponse(identity=await self._whole(name))

    async def GetIdentity(self, request: pb.GetIdentityRequest, context: Any) -> pb.GetIdentityResponse:
        return pb.GetIdentityResponse(identity=await self._whole(identitynames.read(request.name)))

    async def ListIdentities(
        self, request: pb.ListIdentitiesRequest, context: Any
    ) -> pb.ListIdentitiesResponse:
        page, who = Page(self._parts, "ListIdentities", request, (str,)), caller()
        size = page.size
        wanted = "" if not request.parent else names.parent(request.parent)
        seen: list[str] | None = [who.tenant_id]
        if not who.tenant_id:
            everywhere = bool(who.roles & {Role.TENANT_ADMINISTRATOR, Role.AUDITOR})
            seen = None if everywhere else [""]
        if wanted is not None:
            seen = [wanted] if seen is None or wanted in seen else []
        after = page.after[0] if page.after else ""
        found = await self._parts.store.read(
            lambda connection: register.list_entries(connection, size + 1, after, seen)
        )
        answer = pb.ListIdentitiesResponse(identities=[accessview.entry(row) for row in found[:size]])
        size = page.cut(answer.identities)
        if len(found) > size:
            answer.next_page_token = page.token(found[size - 1].name)
        return answer

    async def UpdateIdentity(
        self, request: pb.UpdateIdentityRequest, context: Any
    ) -> pb.UpdateIdentityResponse:
        name = identitynames.read(request.identity.name, "identity.name")

        def change(connection: sa.Connection) -> Entry:
            before = self._managed(connection, name)
            if name == rights.ADMIN:
                raise IdentityReservedError("what admin may do stands in the site file (access.run_by)")
            after = accessview.merged(request, before)
            rights.check_form(naming.parts(name)[1], before.tenant_id, after.roles, after.agent)
            # Nobody gives what they could not manage: also what it will be must be theirs.
            rights.check_manages(caller(), replace(before.target, roles=after.roles))
            register.change(connection, before, after, request.identity.etag, self._parts.clock_ns())
            return after

        return pb.UpdateIdentityResponse(identity=await self._change("UpdateIdentity", request, name, change))

    async def DisableIdentity(
        self, request: pb.DisableIdentityRequest, context: Any
    ) -> pb.DisableIdentityResponse:
        name = identitynames.read(request.name)
        now_ns = self._parts.clock_ns()

        def change(connection: sa.Connection) -> Entry:
            before = self._managed(connection, name)
            after = before if before.disable_ns is not None else replace(before, disable_ns=now_ns)
            register.change(connection, before, after, request.etag, now_ns)
            return after

        return pb.DisableIdentityResponse(
            identity=await self._change("DisableIdentity", request, name, change)
        )

    async def EnableIdentity(
        self, request: pb.EnableIdentityRequest, context: Any
    ) -> pb.EnableIdentityResponse:
        name = identitynames.read(request.name)

        def change(connection: sa.Connection) -> Entry:
            before = self._managed(connection, name)
            after = replace(before, disable_ns=None)
            register.change(connection, before, after, request.etag, self._parts.clock_ns())
            return after

        return pb.EnableIdentityResponse(identity=await self._change("EnableIdentity", request, name, change))

    async def GetCaller(self, request: pb.GetCallerRequest, context: Any) -> pb.GetCallerResponse:
        who, session = caller(), current_session()
        answer = pb.GetCallerResponse(identity=accessview.caller(who))
        if who.fingerprint:
            answer.certificate = identitynames.certificate(who.name, who.fingerprint)
        if session is not None:
            answer.session.CopyFrom(accessview.session(session))
        return answer

    async def IssueCertificate(
        self, request: pb.IssueCertificateRequest, context: Any
    ) -> pb.IssueCertificateResponse:
        name = identitynames.read(request.parent, "parent")
        key = requested.public_key(request.certificate_request)
        lifetime = accessview.lifetime(request.lifetime, accessview.DEFAULT_LIFETIME)
        await self._parts.store.read(lambda connection: self._managed(connection, name))
        made = await self._issue("IssueCertificate", request, name, key, lifetime, "")
        return pb.IssueCertificateResponse(certificate=made)

    async def RenewCertificate(
        self, request: pb.RenewCertificateRequest, context: Any
    ) -> pb.RenewCertificateResponse:
        who = caller()
        key = requested.public_key(request.certificate_request)
        if not who.fingerprint:
            raise OwnCertificateNeededError("a certificate is renewed by who comes with it")
        before = await self._parts.store.read(
            lambda connection: issued.get(connection, who.name, who.fingerprint)
        )
        same = timedelta(microseconds=(before.expire_ns - before.create_ns) // 1000)
        lifetime = accessview.lifetime(request.lifetime, max(same, _OLD_CERTIFICATE))
        made = await self._issue("RenewCertificate", request, who.name, key, lifetime, who.fingerprint)
        return pb.RenewCertificateResponse(certificate=made)

    async def RevokeCertificate(
        self, request: pb.RevokeCertificateRequest, context: Any
    ) -> pb.RevokeCertificateResponse:
        name, fingerprint = identitynames.read_certificate(request.name)

        def change(connection: sa.Connection) -> Certificate:
            self._managed(connection, name)
            return issued.revoke(connection, name, fingerprint, self._parts.clock_ns())

        if request.validate_only:
            return pb.RevokeCertificateResponse(certificate=accessview.certificate(await self._tried(change)))

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> tuple[str, Collection[str]]:
                change(connection)
                note(connection, fingerprint)
                return fingerprint, [name]

            return await self._roll.change(work)

        await self._parts.once("RevokeCertificate", request, act)
        return pb.RevokeCertificateResponse(certificate=await self._certificate(name, fingerprint))

    async def ListCertificates(
        self, request: pb.ListCertificatesRequest, context: Any
    ) -> pb.ListCertificatesResponse:
        name = identitynames.read(request.parent, "parent")
        page = Page(self._parts, "ListCertificates", request)
        size = page.size

        def work(connection: sa.Connection) -> list[Certificate]:
            self._seen(connection, name)
            return issued.of(connection, name, size + 1, page.after)

        found = await self._parts.store.read(work)
        answer = pb.ListCertificatesResponse(
            certificates=[accessview.certificate(row) for row in found[:size]]
        )
        size = page.cut(answer.certificates)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.fingerprint)
        return answer

    async def _issue(
        self,
        method: str,
        request: Any,
        name: str,
        key: requested.PublicKey,
        lifetime: timedelta,
        renewed_from: str,
    ) -> pb.ClientCertificate:
        now_ns = self._parts.clock_ns()
        now = datetime.fromtimestamp(now_ns / 1e9, UTC)
        certificate = pki.certify(self._parts.settings.layout, name, key, lifetime, now)

        def add(connection: sa.Connection) -> Certificate:
            if renewed_from:
                identities.find(connection, renewed_from, now_ns)  # revoked or disabled meanwhile?
            else:
                self._managed(connection, name)
            return issued.add(connection, name, certificate, now_ns, renewed_from)

        if request.validate_only:
            made = accessview.certificate(await self._tried(add))
            made.ClearField("name")
            made.ClearField("pem")
            return made

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> tuple[str, Collection[str]]:
                made = add(connection)
                note(connection, made.fingerprint)
                return made.fingerprint, [name]

            return await self._roll.change(work)

        return await self._certificate(name, await self._parts.once(method, request, act))

    async def _certificate(self, name: str, fingerprint: str) -> pb.ClientCertificate:
        return accessview.certificate(
            await self._parts.store.read(lambda connection: issued.get(connection, name, fingerprint))
        )
