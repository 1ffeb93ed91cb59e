"""Support grants between messages and rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from appliance.access import grants as rules
from appliance.access.errors import GrantTermsError
from appliance.access.grants import Narrowing
from appliance.api import convert, names
from appliance.api.errors import FieldInvalidError
from appliance.api.grantedrecordings import PLAIN
from appliance.api.parts import check_text, moment
from appliance.catalog import filters
from appliance.catalog.filters import And, Comparison, Node
from appliance.catalog.grants import OPEN, Grant, Latched, Scope, Use
from appliance.model import new_id
from earwitness.internal.v1 import tenantkeys_pb2 as vault
from earwitness.v1 import grants_pb2 as pb

MAX_NAME: Final = 64
MAX_NECESSITY: Final = 1000


def asked(said: pb.SupportGrant, tenant_id: str, requester: str, now_ns: int) -> Grant:
    """The request in a message. Fields that are the box's to say are not looked at. FieldInvalidError, NameInvalidError."""
    identities = tuple(check_text(one, "grant.identities", MAX_NAME, 1) for one in said.identities[:100])
    end_ns = _moment(said, "end_time", "grant.")
    if end_ns is None:
        raise GrantTermsError("should be said: no grant is for ever", field="grant.end_time")
    return Grant(
        grant_id=new_id(),
        tenant_id=tenant_id,
        state=Latched.REQUESTED,
        identities=identities or (requester,),
        requester=requester,
        request_ns=now_ns,
        purpose=check_text(said.purpose, "grant.purpose"),
        necessity=check_text(said.necessity, "grant.necessity", MAX_NECESSITY),
        scope=scope(said.scope, tenant_id, "grant.scope"),
        begin_ns=_moment(said, "begin_time", "grant."),
        end_ns=end_ns,
        max_reads=said.max_reads,
        include_parties=said.include_parties,
        public_key=said.public_key,
        seen_ns=now_ns,
    )


def narrowing(request: pb.ApproveGrantRequest) -> Narrowing:
    """What of a request is approved, but for its scope. FieldInvalidError."""
    if request.max_reads < 0:
        raise FieldInvalidError("should not be negative", field="max_reads")
    return Narrowing(
        begin_ns=_moment(request, "begin_time"),
        end_ns=_moment(request, "end_time"),
        max_reads=request.max_reads or None,
        exclude_parties=request.exclude_parties,
    )


def scope(said: pb.GrantScope, tenant_id: str, field: str) -> Scope:
    """Which recordings a message names, of this tenant. NameInvalidError, FieldInvalidError, FilterError."""
    if len(said.recordings) > rules.MAX_RECORDINGS:
        raise FieldInvalidError(f"at most {rules.MAX_RECORDINGS}", field=f"{field}.recordings")
    recordings = [
        _of(one, "recordings", tenant_id, f"{field}.recordings[{number}]")
        for number, one in enumerate(said.recordings)
    ]
    filters.parse(said.filter, PLAIN)
    return Scope(
        recordings=tuple(recordings),
        line_id=_of(said.line, "lines", tenant_id, f"{field}.line") if said.line else "",
        from_ns=_moment(said, "from_time", f"{field}."),
        to_ns=_moment(said, "to_time", f"{field}."),
        filter=said.filter.strip(),
    )


def _of(name: str, collection: str, tenant_id: str, field: str) -> str:
    tenant, thing = names.child(name, collection, field)
    if tenant not in (None, tenant_id):
        raise FieldInvalidError("should be of the tenant whose grant it is", field=field)
    return thing


def where(scopes: Iterable[Scope]) -> Node | None:
    """What matches all of them, but for the recordings that they name."""
    terms: list[Node] = []
    for one in scopes:
        if one.line_id:
            terms.append(Comparison("line", "=", one.line_id))
        if one.from_ns is not None:
            terms.append(Comparison("start_time", ">=", one.from_ns))
        if one.to_ns is not None:
            terms.append(Comparison("start_time", "<", one.to_ns))
        if (node := filters.parse(one.filter, PLAIN)) is not None:
            terms.append(node)
    if not terms:
        return None
    return terms[0] if len(terms) == 1 else And(tuple(terms))


def _moment(said: Any, field: str, prefix: str = "") -> int | None:
    """A time, nanoseconds since the Unix epoch; None where it is not said. FieldInvalidError."""
    return moment(getattr(said, field), f"{prefix}{field}") if said.HasField(field) else None


def message(grant: Grant, now_ns: int, count: int, recordings: Iterable[str] = ()) -> pb.SupportGrant:
    """A grant at its own time; `count`: how many recordings it covers."""
    standing = rules.standing(grant, now_ns)
    made = pb.SupportGrant(
        name=names.grant(grant.tenant_id, grant.grant_id) if grant.grant_id else "",
        state=pb.GrantState.Value(f"GRANT_STATE_{standing.name}"),
        identities=grant.identities,
        scope=_scope(grant),
        purpose=grant.purpose,
        necessity=grant.necessity,
        max_reads=grant.max_reads,
        include_parties=grant.include_parties,
        public_key=grant.public_key,
        requester=grant.requester,
        request_time=convert.timestamp(grant.request_ns),
        approver=grant.approver,
        ender=grant.ender,
        end_reason=grant.end_reason,
        read_count=grant.reads,
        recording_count=count,
        recordings=[names.recording(grant.tenant_id, one) for one in recordings],
        etag=grant.etag,
    )
    times = {
        "begin_time": grant.begin_ns,
        "end_time": grant.end_ns,
        "approve_time": grant.approve_ns,
        "ended_time": grant.ended_ns,
        "last_use_time": grant.last_use_ns,
    }
    for field, ns in times.items():
        if ns is not None:
            getattr(made, field).CopyFrom(convert.timestamp(ns))
    if grant.state in OPEN and standing in (rules.Standing.APPROVED, rules.Standing.ACTIVE):
        made.remaining_reads = grant.max_reads - grant.reads
    return made


def _scope(grant: Grant) -> pb.GrantScope:
    said = grant.scope
    made = pb.GrantScope(
        recordings=[names.recording(grant.tenant_id, one) for one in said.recordings],
        line=names.line(grant.tenant_id, said.line_id),
        filter=said.filter,
    )
    if said.from_ns is not None:
        made.from_time.CopyFrom(convert.timestamp(said.from_ns))
    if said.to_ns is not None:
        made.to_time.CopyFrom(convert.timestamp(said.to_ns))
    return made


def use(one: Use, tenant_id: str) -> pb.GrantUse:
    return pb.GrantUse(
        time=convert.timestamp(one.at_ns),
        identity=one.identity,
        recording=names.recording(tenant_id, one.recording_id),
        kind=pb.GrantUseKind.Value(f"GRANT_USE_KIND_{one.kind.upper()}"),
        format=one.format,
        served=bool(one.etag),
    )


def key(one: vault.GrantKey, tenant_id: str) -> pb.GrantKey:
    return pb.GrantKey(
        recording=names.recording(tenant_id, one.recording_id),
        sealed_key=one.sealed_key,
        expire_time=convert.timestamp(one.expire_ns),
    )
