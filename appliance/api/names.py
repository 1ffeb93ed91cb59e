"""Resource names: tenants/{tenant}, and lines, recordings, calls, prompts, legal holds and policies below it.

"-" stands for any tenant. What is named is confined to what the caller sees (`scope`).
"""

from __future__ import annotations

import re
from typing import Final

from appliance.api import identitynames
from appliance.api.errors import NameInvalidError
from appliance.api.scope import confine
from appliance.model import is_id
from appliance.storage.names import HOLD_LINE, BucketId, BucketNameError

ANY: Final = "-"
_PARENT = re.compile(r"tenants/([a-z2-7]{26}|-)")
_KEYS = re.compile(r"tenants/([a-z2-7]{26}|-)/keys")
_CHILD = re.compile(
    r"tenants/([a-z2-7]{26}|-)/(lines|recordings|calls|legalHolds|grants|subjectRequests|subjectPacks|restrictions|operations|exitPacks|callRecordSources|callRecordImports"
    r"|callRecords|staffMembers|notices|acknowledgements|scorecards|reviewRules|reviews)/([a-z2-7]{26})"
)
_NOTE = re.compile(r"tenants/([a-z2-7]{26}|-)/recordings/([a-z2-7]{26})/notes/([a-z2-7]{26})")
_PROMPT = re.compile(r"(?:tenants/([a-z2-7]{26}|-)/)?prompts/([a-z2-7]{26})")
_DAY = re.compile(r"tenants/([a-z2-7]{26}|-)/completenessDays/([0-9]{4}-[0-9]{2}-[0-9]{2})")
_PURPOSE = re.compile(r"tenants/([a-z2-7]{26}|-)/purposes/([a-z0-9][a-z0-9-]{0,39})")
_REVIEW_SETTINGS = re.compile(r"tenants/([a-z2-7]{26}|-)/reviewSettings")
_ALARM = re.compile(r"(?:tenants/([a-z2-7]{26}|-)/)?(alarms|alarmChannels)/([a-z2-7]{26})")
_DOCUMENT = re.compile(r"(?:tenants/([a-z2-7]{26}|-)/)?documents/[a-z2-7]{26}|plannedWork/[a-z2-7]{26}")
_BUCKET = re.compile(
    r"tenants/([a-z2-7]{26})/(?:lines/([a-z2-7]{26})/buckets/([0-9W-]{7,10})|legalHolds/([a-z2-7]{26})/bucket)"
)
_POLICY = re.compile(r"(?:tenants/([a-z2-7]{26}|-)/(?:lines/([a-z2-7]{26})/)?)?retentionPolicy")


def parent(text: str, field: str = "parent") -> str | None:
    """The tenant's id; None for all tenants."""
    found = _PARENT.fullmatch(text)
    if found is None or not _known(found[1]):
        raise NameInvalidError("should be tenants/{tenant}, or tenants/- for all", field=field)
    return confine(None if found[1] == ANY else found[1])


def is_tenant(text: str) -> bool:
    """Whether a text names tenants, one or all."""
    return _PARENT.fullmatch(text) is not None


def one_tenant(text: str, field: str = "name") -> str:
    """The id of one tenant."""
    tenant_id = parent(text, field)
    if tenant_id is None or text == f"tenants/{ANY}":
        raise NameInvalidError("should name one tenant: tenants/{tenant}", field=field)
    return tenant_id


def keys(text: str, field: str = "name") -> str:
    """The id of the tenant whose keys are named."""
    found = _KEYS.fullmatch(text)
    if found is None:
        raise NameInvalidError("should be tenants/{tenant}/keys", field=field)
    return one_tenant(f"tenants/{found[1]}", field)


def child(text: str, collection: str, field: str = "name") -> tuple[str | None, str]:
    """The tenant's id (None: any) and the id of what is named."""
    found = _CHILD.fullmatch(text)
    if found is None or found[2] != collection or not (_known(found[1]) and is_id(found[3])):
        raise NameInvalidError(f"should be tenants/{{tenant}}/{collection}/{{id}}", field=field)
    return confine(None if found[1] == ANY else found[1]), found[3]


def note(text: str, field: str = "name") -> tuple[str | None, str, str]:
    """The tenant's id (None: any), the recording's id and the note's."""
    found = _NOTE.fullmatch(text)
    if found is None or not (_known(found[1]) and is_id(found[2]) and is_id(found[3])):
        raise NameInvalidError("should be tenants/{tenant}/recordings/{recording}/notes/{note}", field=field)
    return confine(None if found[1] == ANY else found[1]), found[2], found[3]


def tenant_or_line(text: str, field: str = "parent") -> tuple[str | None, str]:
    """The tenant's id (None: all), and the line's id or nothing."""
    if _PARENT.fullmatch(text):
        return parent(text, field), ""
    try:
        tenant_id, line_id = child(text, "lines", field)
    except NameInvalidError:
        raise NameInvalidError(
            "should be tenants/{tenant}, tenants/{tenant}/lines/{line}, or tenants/- for all", field=field
        ) from None
    return tenant_id, line_id


def policy_scope(text: str, field: str = "name") -> tuple[str | None, str]:
    """Whose policy is named: the tenant's id (empty: the box; None: any, of a line) and the line's id or nothing."""
    found = _POLICY.fullmatch(text)
    tenant_id, line_id = (found[1] or "", found[2] or "") if found else ("", "")
    known = (not tenant_id or _known(tenant_id)) and (not line_id or is_id(line_id))
    if found is None or not known or (tenant_id == ANY and not line_id):
        raise NameInvalidError(
            "should be retentionPolicy, tenants/{tenant}/retentionPolicy or"
            " tenants/{tenant}/lines/{line}/retentionPolicy",
            field=field,
        )
    return (confine(None if tenant_id == ANY else tenant_id) if tenant_id else ""), line_id


def prompt(text: str, field: str = "name") -> tuple[str | None, str]:
    """Whose prompt is named: the tenant's id (empty: the box's; None: any tenant's), and its id."""
    found = _PROMPT.fullmatch(text)
    if found is None or not is_id(found[2]) or not (found[1] is None or _known(found[1])):
        raise NameInvalidError("should be tenants/{tenant}/prompts/{prompt} or prompts/{prompt}", field=field)
    return (confine(None if found[1] == ANY else found[1]) if found[1] else ""), found[2]


def alarm_or_channel(text: str, collection: str, field: str = "name") -> tuple[str | None, str]:
    """Whose alarm or channel of alarms is named: the tenant's id (empty: the box's; None: anybody's), and its id."""
    found = _ALARM.fullmatch(text)
    if (
        found is None
        or found[2] != collection
        or not is_id(found[3])
        or not (found[1] is None or _known(found[1]))
    ):
        raise NameInvalidError(
            f"should be tenants/{{tenant}}/{collection}/{{id}} or {collection}/{{id}}", field=field
        )
    return confine("" if found[1] is None else None if found[1] == ANY else found[1]), found[3]


def purpose(text: str, field: str = "name") -> tuple[str, str]:
    """The tenant's id and the id of a purpose of it."""
    found = _PURPOSE.fullmatch(text)
    if found is None:
        raise NameInvalidError("should be tenants/{tenant}/purposes/{purpose}", field=field)
    return one_tenant(f"tenants/{found[1]}", field), found[2]


def completeness_day(text: str, field: str = "name") -> tuple[str, str]:
    """The tenant's id and a day, which may be none of the calendar."""
    found = _DAY.fullmatch(text)
    if found is None:
        raise NameInvalidError("should be tenants/{tenant}/completenessDays/{day}", field=field)
    return one_tenant(f"tenants/{found[1]}", field), found[2]


def settings_of_reviews(text: str, field: str = "name") -> str:
    """The id of the tenant whose settings of reviews are named."""
    found = _REVIEW_SETTINGS.fullmatch(text)
    if found is None:
        raise NameInvalidError("should be tenants/{tenant}/reviewSettings", field=field)
    return one_tenant(f"tenants/{found[1]}", field)


def is_name(text: str) -> bool:
    """Whether this is a resource name, and so holds no personal data."""
    forms = (
        _PARENT,
        _KEYS,
        _CHILD,
        _NOTE,
        _PROMPT,
        _PURPOSE,
        _POLICY,
        _ALARM,
        _DAY,
        _REVIEW_SETTINGS,
        _DOCUMENT,
    )
    return identitynames.owner(text) is not None or any(form.fullmatch(text) for form in forms)


def tenant(tenant_id: str) -> str:
    return f"tenants/{tenant_id}"


def keys_name(tenant_id: str) -> str:
    return f"tenants/{tenant_id}/keys"


def line(tenant_id: str, line_id: str) -> str:
    """Empty where the line is not known, as for some recordings in quarantine."""
    return f"tenants/{tenant_id}/lines/{line_id}" if tenant_id and line_id else ""


def recording(tenant_id: str, recording_id: str) -> str:
    return f"tenants/{tenant_id or ANY}/recordings/{recording_id}"


def record_source(tenant_id: str, source_id: str) -> str:
    return f"tenants/{tenant_id}/callRecordSources/{source_id}"


def subject_request(tenant_id: str, request_id: str) -> str:
    return f"tenants/{tenant_id}/subjectRequests/{request_id}"


def subject_pack(tenant_id: str, pack_id: str) -> str:
    return f"tenants/{tenant_id}/subjectPacks/{pack_id}"


def restriction(tenant_id: str, restriction_id: str) -> str:
    return f"tenants/{tenant_id}/restrictions/{restriction_id}"


def operation(tenant_id: str, operation_id: str) -> str:
    return f"tenants/{tenant_id}/operations/{operation_id}"


def exit_pack(tenant_id: str, pack_id: str) -> str:
    return f"tenants/{tenant_id}/exitPacks/{pack_id}"


def staff_member(tenant_id: str, staff_id: str) -> str:
    return f"tenants/{tenant_id}/staffMembers/{staff_id}"


def notice(tenant_id: str, notice_id: str) -> str:
    return f"tenants/{tenant_id}/notices/{notice_id}"


def acknowledgement(tenant_id: str, acknowledgement_id: str) -> str:
    return f"tenants/{tenant_id}/acknowledgements/{acknowledgement_id}"


def scorecard(tenant_id: str, scorecard_id: str) -> str:
    return f"tenants/{tenant_id}/scorecards/{scorecard_id}"


def review_rule(tenant_id: str, rule_id: str) -> str:
    return f"tenants/{tenant_id}/reviewRules/{rule_id}"


def review(tenant_id: str, review_id: str) -> str:
    return f"tenants/{tenant_id}/reviews/{review_id}"


def review_settings(tenant_id: str) -> str:
    return f"tenants/{tenant_id}/reviewSettings"


def note_name(tenant_id: str, recording_id: str, note_id: str) -> str:
    return f"{recording(tenant_id, recording_id)}/notes/{note_id}"


def call(tenant_id: str, call_id: str) -> str:
    return f"tenants/{tenant_id}/calls/{call_id}" if tenant_id and call_id else ""


def prompt_name(tenant_id: str, prompt_id: str) -> str:
    """Without a tenant: a sample of the box."""
    return f"tenants/{tenant_id}/prompts/{prompt_id}" if tenant_id else f"prompts/{prompt_id}"


def alarm(tenant_id: str, alarm_id: str) -> str:
    """Without a tenant: of the box."""
    return f"tenants/{tenant_id}/alarms/{alarm_id}" if tenant_id else f"alarms/{alarm_id}"


def alarm_channel(tenant_id: str, channel_id: str) -> str:
    """Without a tenant: of the box."""
    return f"tenants/{tenant_id}/alarmChannels/{channel_id}" if tenant_id else f"alarmChannels/{channel_id}"


def purpose_name(tenant_id: str, purpose_id: str) -> str:
    return f"tenants/{tenant_id}/purposes/{purpose_id}"


def policy(tenant_id: str, line_id: str) -> str:
    return "/".join(
        filter(None, (line(tenant_id, line_id) or (tenant_id and tenant(tenant_id)), "retentionPolicy"))
    )


def legal_hold(tenant_id: str, case_id: str) -> str:
    return f"tenants/{tenant_id or ANY}/legalHolds/{case_id}"


def grant(tenant_id: str, grant_id: str) -> str:
    return f"tenants/{tenant_id}/grants/{grant_id}"


def bucket(tenant_id: str, line_id: str, slice_: str) -> str:
    """`line_id` is HOLD_LINE and `slice_` a case's id for the bucket of a legal hold."""
    if line_id == HOLD_LINE:
        return f"{legal_hold(tenant_id, slice_)}/bucket"
    return f"{line(tenant_id, line_id)}/buckets/{slice_}"


def bucket_parts(text: str, field: str = "name") -> BucketId:
    """Which bucket a name of `bucket` is of."""
    tenant_id, found = "", _BUCKET.fullmatch(text)
    if found is not None:
        tenant_id = confine(found[1]) or ""
    if not tenant_id or found is None:
        raise NameInvalidError("should be a bucket's name, as ListBuckets has it", field=field)
    try:
        return (
            BucketId(tenant_id, HOLD_LINE, found[4]) if found[4] else BucketId(tenant_id, found[2], found[3])
        )
    except BucketNameError as error:
        raise NameInvalidError("should be a bucket's name, as ListBuckets has it", field=field) from error


def _known(tenant_id: str) -> bool:
    return tenant_id == ANY or is_id(tenant_id)
