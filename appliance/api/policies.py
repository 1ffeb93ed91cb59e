"""RetentionService: policies. What they say, what holds, and what a change of them does."""

from __future__ import annotations

from typing import Any, Final

from appliance.access.identities import Role
from appliance.api import names, retentionconvert
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts
from appliance.api.scope import caller, require
from appliance.catalog import tenants
from appliance.catalog.errors import EtagMismatchError
from appliance.model import ConflictError, EarwitnessError
from earwitness.internal.v1 import retention_pb2 as vault
from earwitness.v1 import retention_pb2 as pb
from earwitness.v1 import tenants_pb2

_ATTEMPTS: Final = 5  # where somebody else changes policies at the same time
_FIELDS: Final = retentionconvert.FIELDS


class Policies:
    """The policies' half of RetentionService."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def scope(self, name: str, field: str = "name") -> vault.PolicyScope:
        """Whose policy is named. NameInvalidError, TenantNotFoundError, LineNotFoundError."""
        tenant_id, line_id = names.policy_scope(name, field)
        if line_id:
            line = await self.parts.store.read(
                lambda connection: tenants.get_line(connection, line_id, tenant_id)
            )
            tenant_id = line.tenant_id
        elif tenant_id:
            asked = tenant_id
            await self.parts.store.read(lambda connection: tenants.get_tenant(connection, asked))
        return vault.PolicyScope(tenant_id=tenant_id or "", line_id=line_id)

    async def _policy(self, scope: vault.PolicyScope) -> pb.RetentionPolicy:
        return retentionconvert.policy((await self.parts.retention.policies([scope])).policies[0])

    async def GetRetentionPolicy(
        self, request: pb.GetRetentionPolicyRequest, context: Any
    ) -> pb.GetRetentionPolicyResponse:
        scope = await self.scope(request.name)
        return pb.GetRetentionPolicyResponse(retention_policy=await self._policy(scope))

    async def ListRetentionPolicies(
        self, request: pb.ListRetentionPoliciesRequest, context: Any
    ) -> pb.ListRetentionPoliciesResponse:
        tenant_id = names.parent(request.parent)
        page = Page(self.parts, "ListRetentionPolicies", request, (str, str))
        size = page.size
        after: tuple[str, str] | None = page.after
        found = [
            one
            for one in (await self.parts.retention.policies()).policies
            if tenant_id in (None, one.scope.tenant_id) and (after is None or _place(one.scope) > after)
        ]
        answer = pb.ListRetentionPoliciesResponse(
            retention_policies=map(retentionconvert.policy, found[:size])
        )
        size = page.cut(answer.retention_policies)
        if len(found) > size:
            answer.next_page_token = page.token(*_place(found[size - 1].scope))
        return answer

    async def UpdateRetentionPolicy(
        self, request: pb.UpdateRetentionPolicyRequest, context: Any
    ) -> pb.UpdateRetentionPolicyResponse:
        wanted = request.retention_policy
        scope = await self.scope(wanted.name, "retention_policy.name")
        _may_change(scope)
        change = vault.SetPolicyRequest(
            scope=scope,
            fields=_asked(request, of_box=not scope.tenant_id),
            policy=_said(wanted),
            who=caller().name,
            validate_only=request.validate_only,
        )
        done: list[vault.SetPolicyResponse] = []

        async def act(note: Note) -> str:
            subject = scope.line_id or scope.tenant_id or "box"
            done.append(await self._set(change, wanted.etag))
            if not request.validate_only:
                await self.parts.store.write(lambda connection: note(connection, subject))
            return subject

        await self.parts.once("UpdateRetentionPolicy", request, act)
        if not done:
            return pb.UpdateRetentionPolicyResponse(retention_policy=await self._policy(scope))
        return pb.UpdateRetentionPolicyResponse(
            retention_policy=retentionconvert.policy(done[0].policy),
            impact=retentionconvert.impact(done[0].impact),
        )

    async def _set(self, change: vault.SetPolicyRequest, etag: str) -> vault.SetPolicyResponse:
        """With an etag only if the policy is still as it was; changes of others' policies in between do not matter."""
        for _ in range(_ATTEMPTS):
            if etag:
                book = await self.parts.retention.policies([change.scope])
                if etag != retentionconvert.policy(book.policies[0]).etag:
                    raise EtagMismatchError("the policy changed since", field="retention_policy.etag")
                change.version = book.version
            try:
                return await self.parts.retention.set_policy(change)
            except EarwitnessError as error:
                if error.reason == "POLICY_CHANGED":
                    continue
                if isinstance(field := error.data.get("field"), str):
                    error.data["field"] = f"retention_policy.{field}"
                raise
        raise ConflictError("policies are being changed all the time; try again")

    async def CancelPendingChange(
        self, request: pb.CancelPendingChangeRequest, context: Any
    ) -> pb.CancelPendingChangeResponse:
        scope = await self.scope(request.name)
        _may_change(scope)
        if request.field not in _FIELDS:
            raise FieldInvalidError(f"should be one of {', '.join(_FIELDS)}", field="field")
        change = vault.CancelPolicyChangeRequest(
            scope=scope,
            field=_FIELDS[request.field],
            who=caller().name,
            validate_only=request.validate_only,
        )
        done: list[vault.ScopedPolicy] = []

        async def act(note: Note) -> str:
            subject = scope.line_id or scope.tenant_id or "box"
            done.append(await self.parts.retention.cancel_change(change))
            if not request.validate_only:
                await self.parts.store.write(lambda connection: note(connection, subject))
            return subject

        await self.parts.once("CancelPendingChange", request, act)
        policy = retentionconvert.policy(done[0]) if done else await self._policy(scope)
        return pb.CancelPendingChangeResponse(retention_policy=policy)


def _place(scope: vault.PolicyScope) -> tuple[str, str]:
    return scope.tenant_id, scope.line_id


def _asked(request: pb.UpdateRetentionPolicyRequest, *, of_box: bool) -> list[vault.PolicyField.ValueType]:
    """Which fields are to be changed."""
    wanted, paths = request.retention_policy, list(request.update_mask.paths)
    said = {
        "retention": bool(wanted.retention),
        "grace_days": wanted.HasField("grace_days"),
        "grain": bool(wanted.grain),
        "cooling_days": wanted.HasField("cooling_days"),
    }
    if paths == ["*"]:
        paths = [name for name in _FIELDS if of_box or name != "cooling_days"]
    elif not paths:
        paths = [name for name, is_said in said.items() if is_said]
    for path in paths:
        if path not in _FIELDS:
            raise FieldInvalidError(f"should be * or some of {', '.join(_FIELDS)}", field="update_mask")
    if not paths:
        raise FieldInvalidError("says nothing to change", field="update_mask")
    return [_FIELDS[name] for name in dict.fromkeys(paths)]


def _said(wanted: pb.RetentionPolicy) -> vault.Policy:
    if wanted.grain not in tenants_pb2.Grain.values():
        raise FieldInvalidError("should be DAY, WEEK or MONTH", field="retention_policy.grain")
    return vault.Policy(
        retention=wanted.retention,
        grace_days=wanted.grace_days if wanted.HasField("grace_days") else None,
        unit=retentionconvert.unit(wanted.grain),
        cooling_days=wanted.cooling_days if wanted.HasField("cooling_days") else None,
    )


def _may_change(of: vault.PolicyScope) -> None:
    """The box's policy is its operator's; a tenant's and its lines' are the tenant's, whose recordings these are."""
    require(Role.TENANT_ADMINISTRATOR if of.tenant_id else Role.OPERATOR)
