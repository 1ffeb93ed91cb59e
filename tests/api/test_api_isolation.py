"""No field of one tenant ever reaches another: every method, streams and errors included, with whatever request.

Two tenants are filled with texts and ids that stand nowhere else. Identities of the first then ask everything of everybody;
nothing of the second may come back but what was in the question, nothing of the second may change, and a question about the
second is answered as the same question about a tenant that does not exist.
"""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from access_kit import request_of
from anycall import Maker, Method, Outcome, call, exchanged, found_in, methods
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.timestamp_pb2 import Timestamp

import earwitness
from appliance.access.identities import TENANT_ROLES, Role
from appliance.api.limits import RateLimit
from appliance.catalog import alarms, exitpacks
from appliance.media.audio.encode import wav_header
from appliance.model import Mark, MarkKind, new_id
from earwitness.internal.v1 import signaling_pb2
from earwitness.v1 import (
    access_pb2,
    alarms_pb2,
    calls_pb2,
    closing_pb2,
    completeness_pb2,
    documents_pb2,
    events_pb2,
    grants_pb2,
    notes_pb2,
    notices_pb2,
    operations_pb2,
    prompts_pb2,
    purposes_pb2,
    recordings_pb2,
    retention_pb2,
    review_pb2,
    staff_pb2,
    subjects_pb2,
    tenants_pb2,
)

ROUNDS = 8
SECOND = 10**9
START = 1_764_000_000_000_000_000
_ID = re.compile(r"[a-z2-7]{26}")


@dataclass
class Planted:
    """A tenant with something of everything, and what of it stands nowhere else."""

    tenant_id: str
    words: list[str] = field(default_factory=list)  # names and numbers of people, texts about them
    signs: list[str] = field(default_factory=list)  # names and numbers of lines
    names: list[str] = field(default_factory=list)  # resource names

    @property
    def ids(self) -> list[str]:
        return sorted({one for name in self.names for one in _ID.findall(name)} | {self.tenant_id})


def plant(box, client, sealing, tenant_id: str, word: str, number: str) -> Planted:
    """Fill a tenant. `word` and `number` (ten digits) stand in all that is about people, `signs` in what is about lines."""
    parent = f"tenants/{tenant_id}"
    sign, line_number = f"{word[::-1]}", f"{number[:6]}7{number[7:]}"
    made = Planted(tenant_id, [word, number], [sign, line_number], [parent])
    line = client.tenants.CreateLine(
        tenants_pb2.CreateLineRequest(
            parent=parent,
            line=tenants_pb2.Line(
                display_name=f"{sign} line",
                numbers=[f"+44{line_number}"],
                trunks=[f"{sign}.example"],
                do_not_record=[f"+44{line_number}9"],
            ),
        )
    ).line.name
    line_id = line[-26:]
    now = time.time_ns()
    recordings = []
    for offset in range(3):
        sealed = sealing(
            tenant_id,
            line_id,
            start_ns=START + offset * SECOND,
            names=(f"{word} Caller", f"{word} Agent"),
            numbers=(f"+44{number}", f"{number[:6]}"),
            sip_call_id=f"{word}@sbc.example",
            session_ids=(f"{word}-{offset}",),
            marks=(
                Mark(
                    kind=MarkKind.PAUSED, at_ns=START + offset * SECOND, actor=word, reason=f"{word} said so"
                ),
            ),
        )
        recording_id = box.vault.file(sealed)
        box.filed(recording_id)
        recordings.append(f"{parent}/recordings/{recording_id}")
        made.names.append(f"{parent}/calls/{sealed.info.call_id}")
    client.recordings.DeleteRecording(
        recordings_pb2.DeleteRecordingRequest(name=recordings[1], reason=f"{word} wants it")
    )
    client.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(name=recordings[2], reason=f"{word} insists", force=True)
    )
    hold = client.retention.CreateLegalHold(
        retention_pb2.CreateLegalHoldRequest(
            parent=parent,
            legal_hold=retention_pb2.LegalHold(
                title=f"{word} inquiry",
                reason=f"{word} asked",
                owner=f"{word} owner",
                scopes=[retention_pb2.LegalHoldScope(line=line)],
            ),
        )
    ).legal_hold.name
    client.closing.CloseLine(closing_pb2.CloseLineRequest(name=line, reason=f"{sign} moves away"))
    pack = an_exit_pack(tenant_id, line_id, f"{word.lower()}-clerk")
    box.write(lambda connection: exitpacks.add(connection, pack))
    made.names.append(f"{parent}/exitPacks/{pack.id}")
    client.retention.UpdateRetentionPolicy(
        retention_pb2.UpdateRetentionPolicyRequest(
            retention_policy=retention_pb2.RetentionPolicy(name=f"{line}/retentionPolicy", retention="3y")
        )
    )
    made.names += added(client, parent, recordings[0], word, number)
    made.names += rights(client, parent, recordings[0], word, number)
    made.names += reviewed(client, parent, recordings[0], word)
    made.signs.append(f"{word.lower()}-clerk")
    made.names += alarmed(box, client, tenant_id, word)
    made.names.append(documented(client, parent))
    live = box.signaling.begin(
        tenant_id,
        line_id,
        parties=[
            signaling_pb2.LiveParty(
                aor=f"sip:+44{number}@pstn.example", name=f"{word} Live", role="caller", track=0
            )
        ],
        started_ns=now,
        detail=f"{word} detail",
    )
    box.wait(lambda: any(one.call_id == live for one in box.control.parts.board.calls()))
    made.names += [line, *recordings, hold, f"{parent}/calls/{live}", f"{line}/retentionPolicy"]
    made.names += [f"{parent}/retentionPolicy", f"{parent}/keys"]
    return made


def reviewed(client, parent: str, recording: str, word: str) -> list[str]:
    """A scorecard, a rule that draws calls, and a review with words about a call; their names."""
    stub, yes_no = client.review, review_pb2.QUESTION_KIND_YES_NO
    card = stub.CreateScorecard(
        review_pb2.CreateScorecardRequest(
            parent=parent,
            scorecard=review_pb2.Scorecard(
                display_name=f"{word[::-1]} desk",
                questions=[review_pb2.Question(question="greeted", text=f"{word[::-1]}?", kind=yes_no)],
            ),
        )
    ).scorecard.name
    rule = stub.CreateReviewRule(
        review_pb2.CreateReviewRuleRequest(
            parent=parent,
            rule=review_pb2.ReviewRule(
                display_name=f"{word[::-1]} sample",
                scorecard=card,
                draw=review_pb2.REVIEW_DRAW_EVERY,
                every=1000,
            ),
        )
    ).rule.name
    asked = review_pb2.Review(recording=recording, scorecard=card)
    review = stub.CreateReview(review_pb2.CreateReviewRequest(parent=parent, review=asked)).review.name
    stub.ClaimReview(review_pb2.ClaimReviewRequest(name=review))
    answer = review_pb2.ReviewAnswer(question="greeted", yes=True, text=f"{word} was thanked")
    stub.AnswerReview(review_pb2.AnswerReviewRequest(name=review, answers=[answer]))
    stub.SubmitReview(review_pb2.SubmitReviewRequest(name=review))
    return [card, rule, review, f"{parent}/reviewSettings"]


def alarmed(box, client, tenant_id: str, word: str) -> list[str]:
    """An alarm, and a channel to tell it by; their names."""
    parent = f"tenants/{tenant_id}"
    told = alarms_pb2.AlarmChannel(
        display_name=f"{word[::-1]} desk", syslog=alarms_pb2.SyslogSettings(host=f"{word.lower()}.invalid")
    )
    channel = client.alarms.CreateAlarmChannel(
        alarms_pb2.CreateAlarmChannelRequest(parent=parent, alarm_channel=told)
    ).alarm_channel
    raised = box.write(
        lambda connection: alarms.raise_alarm(
            connection, "GrantRequested", new_id(), tenant_id, time.time_ns()
        )
    )
    return [f"{parent}/alarms/{raised}", channel.name]


def documented(client, parent: str) -> str:
    """A document made of everything that the tenant has; its name."""
    request = documents_pb2.GenerateDocumentRequest(
        parent=parent,
        kind=documents_pb2.DOCUMENT_KIND_PROTECTION_ANNEX,
        format=documents_pb2.DOCUMENT_FORMAT_MARKDOWN,
        include_people=True,
    )
    return next(iter(client.documents.GenerateDocument(request))).document.name


def an_exit_pack(tenant_id: str, line_id: str, who: str) -> exitpacks.ExitPack:
    """One that was made."""
    spec = {"target": "folder", "path": f"/media/{who}-exit", "sound": "wav", "sealed": True, "vcon": False}
    return exitpacks.ExitPack(
        new_id(),
        tenant_id,
        line_id,
        exitpacks.PackState.SUCCEEDED,
        True,
        who,
        START,
        spec={**spec, "remove": False},
    )


def rights(client, parent: str, recording: str, word: str, number: str) -> list[str]:
    """What people ask of a tenant who were recorded: access, with a choice, and a restriction; their names."""
    asked = client.subjects.CreateSubjectRequest(
        subjects_pb2.CreateSubjectRequestRequest(
            parent=parent,
            subject_request=subjects_pb2.SubjectRequest(
                reference=f"{word} asks",
                receive_date="2025-11-24",
                identification=f"{word} showed a card",
                numbers=[subjects_pb2.SubjectNumber(number=f"+44{number}", own=True)],
                handler=f"{word} handles",
            ),
        )
    ).subject_request
    choice = subjects_pb2.SubjectChoice(recording=recording, give=True, text=f"{word} agrees")
    client.subjects.SetSubjectChoice(subjects_pb2.SetSubjectChoiceRequest(name=asked.name, choice=choice))
    restricted = client.subjects.CreateRestriction(
        subjects_pb2.CreateRestrictionRequest(
            parent=parent,
            restriction=subjects_pb2.Restriction(
                ground=subjects_pb2.RESTRICTION_GROUND_ACCURACY,
                reason=f"{word} contests it",
                number=f"+44{number}8",
            ),
        )
    ).restriction
    return [asked.name, restricted.name]


def added(client, parent: str, recording: str, word: str, number: str) -> list[str]:
    """What people add to a tenant: a note, tags, a purpose, an operation, a grant, a prompt, an identity; their names."""
    note = client.notes.CreateNote(
        notes_pb2.CreateNoteRequest(parent=recording, note=notes_pb2.Note(text=f"{word} was upset"))
    ).note
    client.notes.UpdateRecordingTags(
        notes_pb2.UpdateRecordingTagsRequest(name=recording, add=[f"{word} complaint"])
    )
    purpose = client.purposes.CreatePurpose(
        purposes_pb2.CreatePurposeRequest(
            parent=parent, purpose_id="audit-of-wards", purpose=purposes_pb2.Purpose(display_name="Wards")
        )
    ).purpose
    operation = client.operations.VerifyRecordings(
        operations_pb2.VerifyRecordingsRequest(parent=parent, filter=f'party.name:"{word}"')
    ).operation
    grant = client.grants.CreateGrant(
        grants_pb2.CreateGrantRequest(
            parent=parent,
            grant=grants_pb2.SupportGrant(
                identities=["helper"],
                purpose="system-operation",
                necessity=f"{word} sounds as if under water",
                scope=grants_pb2.GrantScope(recordings=[recording]),
                end_time=Timestamp(seconds=int(time.time()) + 86400),
                max_reads=3,
            ),
        )
    ).grant
    pcm = np.random.default_rng(3).standard_normal(8000) * 3000
    said = prompts_pb2.Prompt(
        display_name=f"{word[::-1]} greets", language="en-GB", text=f"{word[::-1]} records."
    )
    prompt = client.prompts.CreatePrompt(
        iter(
            [
                prompts_pb2.CreatePromptRequest(
                    parent=parent, prompt=said, audio=wav_header(8000, 1, 8000) + pcm.astype("<i2").tobytes()
                )
            ]
        )
    ).prompt
    who = client.access.CreateIdentity(
        access_pb2.CreateIdentityRequest(
            identity=access_pb2.Identity(
                name=f"identities/{word.lower()}-clerk",
                roles=[access_pb2.IDENTITY_ROLE_SUPERVISOR],
                tenant=parent,
            )
        )
    ).identity
    said = [one.name for one in (note, purpose, operation, grant, prompt, who)]
    return [*said, *told_of_calls(client, parent, word, number), *told_to_staff(client, parent, word)]


def told_to_staff(client, parent: str, word: str) -> list[str]:
    """Somebody of the staff, a notice, and that it was acknowledged."""
    member = client.notices.CreateStaffMember(
        staff_pb2.CreateStaffMemberRequest(
            parent=parent,
            staff_member=staff_pb2.StaffMember(
                display_name=f"{word} Clerk", email=f"{word}@clerks.example", numbers=[f"{word.lower()}.1"]
            ),
        )
    ).staff_member
    notice = client.notices.CreateNotice(
        notices_pb2.CreateNoticeRequest(
            parent=parent,
            notice=notices_pb2.Notice(display_name=f"{word[::-1]} rules"),
            first_version=notices_pb2.NoticeVersion(text=f"{word[::-1]} records."),
        )
    ).notice
    signed = client.notices.RecordPaperAcknowledgement(
        notices_pb2.RecordPaperAcknowledgementRequest(
            name=notice.name,
            staff_member=member.name,
            version=1,
            sign_time=Timestamp(seconds=int(time.time()) + 1),
            kept_at=f"{word} cabinet",
        )
    ).acknowledgement
    return [member.name, notice.name, signed.name]


def told_of_calls(client, parent: str, word: str, number: str) -> list[str]:
    """A switchboard's records: their source, and the day of one call."""
    source = completeness_pb2.CallRecordSource(
        display_name=f"{word[::-1]} switchboard",
        map=completeness_pb2.RecordMap(
            header_rows=1,
            start="at",
            duration="talk",
            from_number="from",
            to_number="to",
            time_format="epoch",
        ),
    )
    made = client.completeness.CreateCallRecordSource(
        completeness_pb2.CreateCallRecordSourceRequest(parent=parent, source=source)
    ).source
    row = f"at,talk,from,to\n{int(time.time())},60,0{number},+44{number[:6]}7{number[7:]}\n"
    answer = client.completeness.ImportCallRecords(
        iter([completeness_pb2.ImportCallRecordsRequest(parent=made.name, data=row.encode())])
    )
    return [made.name, *(day.name for day in answer.days)]


@pytest.fixture
def ground(make_box, sealing):
    """A box, its administrator, and two tenants."""
    box = make_box(rate=RateLimit(100_000, 100_000))
    box.enroll("helper", Role.SUPPORT)
    first, _ = box.default_line()
    client = box.client()
    second = client.tenants.CreateTenant(
        tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="akkouQ trust"))
    ).tenant.name[-26:]
    mine = plant(box, client, sealing, first, "Numbat", "7700900111")
    other = plant(box, client, sealing, second, "Quokka", "7700900222")
    return box, client, mine, other


def state_of(client, tenant_id: str) -> bytes:
    """Everything of a tenant that its people would miss."""
    parent = f"tenants/{tenant_id}"
    answers = [
        client.tenants.GetTenant(tenants_pb2.GetTenantRequest(name=parent)),
        client.tenants.ListLines(tenants_pb2.ListLinesRequest(parent=parent)),
        client.recordings.ListRecordings(
            recordings_pb2.ListRecordingsRequest(
                parent=parent, show_deleted=True, view=recordings_pb2.RECORDING_VIEW_FULL
            )
        ),
        client.retention.ListLegalHolds(
            retention_pb2.ListLegalHoldsRequest(parent=parent, show_released=True)
        ),
        client.retention.ListRetentionPolicies(retention_pb2.ListRetentionPoliciesRequest(parent=parent)),
        client.calls.ListCalls(calls_pb2.ListCallsRequest(parent=parent)),
        client.purposes.ListPurposes(purposes_pb2.ListPurposesRequest(parent=parent, show_archived=True)),
        client.grants.ListGrants(grants_pb2.ListGrantsRequest(parent=parent)),
        client.prompts.ListPrompts(prompts_pb2.ListPromptsRequest(parent=parent)),
        client.subjects.ListSubjectRequests(
            subjects_pb2.ListSubjectRequestsRequest(parent=parent, show_closed=True)
        ),
        client.subjects.ListRestrictions(
            subjects_pb2.ListRestrictionsRequest(parent=parent, show_ended=True)
        ),
        client.access.ListIdentities(access_pb2.ListIdentitiesRequest(parent=parent)),
        client.notices.ListStaffMembers(staff_pb2.ListStaffMembersRequest(parent=parent)),
        client.notices.ListNotices(notices_pb2.ListNoticesRequest(parent=parent)),
        client.notices.ListAcknowledgements(notices_pb2.ListAcknowledgementsRequest(parent=parent)),
        client.review.ListScorecards(review_pb2.ListScorecardsRequest(parent=parent, show_archived=True)),
        client.review.ListReviewRules(review_pb2.ListReviewRulesRequest(parent=parent)),
        client.review.ListReviews(review_pb2.ListReviewsRequest(parent=parent)),
        client.review.GetReviewSettings(review_pb2.GetReviewSettingsRequest(name=f"{parent}/reviewSettings")),
        client.closing.ListClosings(closing_pb2.ListClosingsRequest(parent=parent)),
        client.documents.ListDocuments(documents_pb2.ListDocumentsRequest(parent=parent)),
        client.closing.ListExitPacks(closing_pb2.ListExitPacksRequest(parent=parent)),
        client.completeness.ListCallRecordSources(
            completeness_pb2.ListCallRecordSourcesRequest(parent=parent)
        ),
        client.completeness.ListCallRecordImports(
            completeness_pb2.ListCallRecordImportsRequest(parent=parent)
        ),
    ]
    answers += [
        client.notes.ListNotes(notes_pb2.ListNotesRequest(parent=one.name))
        for one in answers[2].recordings
        if one.state == recordings_pb2.RECORDING_STATE_FILED
    ]
    for answer in answers[2].recordings:
        answer.ClearField("expire_time")  # follows the clock
    for answer in answers:
        for closing in getattr(answer, "closings", ()):
            closing.ClearField("left")  # the same
    return b"\0".join(one.SerializeToString(deterministic=True) for one in answers)


def requests(rng: random.Random, method: Method, mine: Planted, other: Planted, texts=("x", "")):
    """What somebody of the first tenant may ask: of the own, of the other's, of everybody's, with wrong and right names."""
    crossed = [name.replace(mine.tenant_id, other.tenant_id) for name in mine.names if mine.tenant_id in name]
    hidden = [name.replace(other.tenant_id, "-") for name in other.names]
    names = [*other.names, *other.names, *hidden, *crossed, "tenants/-", f"tenants/{mine.tenant_id}"]
    maker = Maker(rng, names, texts)
    for _ in range(ROUNDS):
        yield maker.request(method)


def secrets_in(outcome: Outcome, asked: bytes, other: Planted) -> list[str]:
    """What of the other tenant came back that was not in the question."""
    return [
        secret
        for secret in found_in(outcome.raw, [*other.words, *other.signs, *other.ids])
        if secret.encode() not in asked or secret == other.words[0]
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_of_another_tenant_is_told_or_changed(ground, seed):
    box, admin, mine, other = ground
    somebody = box.enroll("somebody", *TENANT_ROLES, tenant_id=mine.tenant_id, agent="1")
    before = state_of(admin, other.tenant_id)
    rng = random.Random(seed)
    tried = [f"+44{other.words[1]}", other.signs[1], f"+44{other.signs[1]}", "x", ""]
    leaks, answered, said = [], 0, []
    for method in methods():
        for request in requests(rng, method, mine, other, tried):
            outcome = call(somebody.channel, method, request)
            assert outcome.code not in ("UNKNOWN", "INTERNAL"), (method.path, request)
            answered += outcome.code == "OK"
            said.append(request.SerializeToString())
            # The audit shows what the own people asked, in their words; texts they wrote come back in what they made.
            asked = b"".join(said) if "AuditService" in method.path else said[-1] + " ".join(tried).encode()
            leaks += [(method.path, outcome.reason, one) for one in secrets_in(outcome, asked, other)]
    assert not leaks, sorted({path for path, *_ in leaks})
    assert answered > 50, "what is not answered tells nothing"
    assert state_of(admin, other.tenant_id) == before


def told(outcome: Outcome) -> tuple[str, str, bytes]:
    """What a caller sees of an outcome, without what is new each time."""
    return outcome.code, outcome.reason, outcome.raw


def test_a_question_about_another_tenant_is_answered_as_one_about_nothing(ground):
    box, _, mine, other = ground
    somebody = box.enroll("somebody", *TENANT_ROLES, tenant_id=mine.tenant_id, agent="1")
    nothing = {one: new_id() for one in other.ids}
    rng = random.Random(3)
    differences, compared = [], 0
    for method in methods():
        if method.watches:
            continue  # what has a time in it differs each time; what it tells is looked at above
        maker = Maker(rng, other.names, ["x"])
        for _ in range(ROUNDS):
            request = maker.request(method)
            twin = exchanged(request, nothing)
            if request == twin:
                continue
            there = told(call(somebody.channel, method, request))
            back = {new: old for old, new in nothing.items()}
            code, reason, raw = told(call(somebody.channel, method, twin))
            for new, old in back.items():
                raw = raw.replace(new.encode(), old.encode())
            compared += 1
            if (there[0], there[1]) != (code, reason) or (there[0] != "OK" and there[2] != raw):
                differences.append((method.path, str(request), there, (code, reason, raw)))
    assert not differences
    assert compared > 100


def about(name: str) -> list[tuple[str, Any]]:
    """What may be asked about an identity: making, changing, disabling it, its certificates, passphrase, sessions."""
    csr = request_of(ec.generate_private_key(ec.SECP256R1()))
    subject = access_pb2.ProviderSubject(issuer="https://id.example", subject="1")
    typed = {"passphrase": "correct horse battery"}
    return [
        ("GetIdentity", access_pb2.GetIdentityRequest(name=name)),
        ("DisableIdentity", access_pb2.DisableIdentityRequest(name=name)),
        ("EnableIdentity", access_pb2.EnableIdentityRequest(name=name)),
        (
            "UpdateIdentity",
            access_pb2.UpdateIdentityRequest(
                identity=access_pb2.Identity(name=name, roles=[access_pb2.IDENTITY_ROLE_AUDITOR])
            ),
        ),
        ("IssueCertificate", access_pb2.IssueCertificateRequest(parent=name, certificate_request=csr)),
        ("ListCertificates", access_pb2.ListCertificatesRequest(parent=name)),
        (
            "RevokeCertificate",
            access_pb2.RevokeCertificateRequest(name=f"{name}/certificates/{'a' * 64}"),
        ),
        ("AddSubject", access_pb2.AddSubjectRequest(name=name, subject=subject)),
        ("RemoveSubject", access_pb2.RemoveSubjectRequest(name=name, subject=subject)),
        ("ResetPassphrase", access_pb2.ResetPassphraseRequest(name=name)),
        ("SignIn", access_pb2.SignInRequest(name=name, code="000000", **typed)),
        ("EnrolPassphrase", access_pb2.EnrolPassphraseRequest(name=name, enrolment_code="a", **typed)),
        ("ListSessions", access_pb2.ListSessionsRequest(parent=name)),
        ("RevokeSession", access_pb2.RevokeSessionRequest(name=f"{name}/sessions/{'b' * 26}")),
    ]


def test_a_name_of_another_tenants_identity_is_as_one_that_nobody_has(ground):
    box, admin, mine, other = ground
    boss = box.enroll("boss", Role.TENANT_ADMINISTRATOR, tenant_id=mine.tenant_id)
    known, unknown = "quokka-clerk", "quokka-clown"  # one that the other tenant has, and one that nobody has
    before = state_of(admin, other.tenant_id)
    paths = {method.path.rpartition("/")[2]: method for method in methods() if "Access" in method.path}
    for below in ("", f"tenants/{mine.tenant_id}/", f"tenants/{other.tenant_id}/"):
        asked = zip(about(f"{below}identities/{known}"), about(f"{below}identities/{unknown}"), strict=True)
        for (name, there), (_, nowhere) in asked:
            found, twin = (told(call(boss.channel, paths[name], one)) for one in (there, nowhere))
            assert found == twin and found[0] != "OK", (name, below, found, twin)
    made = [
        boss.access.CreateIdentity(
            access_pb2.CreateIdentityRequest(
                identity=access_pb2.Identity(
                    name=f"identities/{name}",
                    roles=[access_pb2.IDENTITY_ROLE_AUDITOR],
                    tenant=f"tenants/{mine.tenant_id}",
                )
            )
        ).identity.name
        for name in (known, unknown)
    ]
    assert made == [f"tenants/{mine.tenant_id}/identities/{name}" for name in (known, unknown)]
    assert state_of(admin, other.tenant_id) == before


def test_the_providers_staff_see_no_name_and_no_number(ground):
    box, admin, mine, other = ground
    support = box.enroll("provider", Role.SUPPORT)
    before = [state_of(admin, one.tenant_id) for one in (mine, other)]
    rng = random.Random(4)
    leaks = []
    for method in methods():
        for request in requests(rng, method, mine, other):
            outcome = call(support.channel, method, request)
            asked = request.SerializeToString()
            for planted in (mine, other):
                leaks += [
                    (method.path, one)
                    for one in found_in(outcome.raw, [*planted.words, *planted.signs])
                    # The name of a tenant itself is how the provider knows its customer.
                    if one.encode() not in asked and not method.path.endswith(("/GetTenant", "/ListTenants"))
                ]
    assert not leaks, sorted({path for path, *_ in leaks})
    assert [state_of(admin, one.tenant_id) for one in (mine, other)] == before


def test_an_operator_of_a_box_that_a_provider_runs_hears_and_sees_no_call(ground):
    box, _, mine, other = ground
    operator = box.enroll("desk", Role.OPERATOR)
    rng = random.Random(5)
    leaks = []
    for method in methods():
        if method.path.endswith(("/RunRetention", "/RebuildCatalogue", "/ForgetKeystoreCopy")):
            continue  # change the box for all; what they tell are counts
        for request in requests(rng, method, mine, other):
            outcome = call(operator.channel, method, request)
            for planted in (mine, other):
                told = found_in(outcome.raw, planted.words)
                leaks += [
                    (method.path, one) for one in told if one.encode() not in request.SerializeToString()
                ]
    assert not leaks, sorted({path for path, *_ in leaks})
    for planted in (mine, other):
        parent = f"tenants/{planted.tenant_id}"
        recording = next(name for name in planted.names if "/recordings/" in name)
        for ask in (
            lambda parent=parent: operator.recordings.ListRecordings(
                recordings_pb2.ListRecordingsRequest(parent=parent)
            ),
            lambda recording=recording: list(
                operator.recordings.DownloadRecording(
                    recordings_pb2.DownloadRecordingRequest(
                        name=recording, format=recordings_pb2.DOWNLOAD_FORMAT_SEALED
                    )
                )
            ),
            lambda parent=parent: operator.calls.ListCalls(calls_pb2.ListCallsRequest(parent=parent)),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                ask()
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_an_agent_sees_the_own_calls_alone(ground):
    box, admin, mine, _ = ground
    parent = f"tenants/{mine.tenant_id}"
    line = next(name for name in mine.names if "/lines/" in name and not name.endswith("Policy"))
    own = box.signaling.begin(
        mine.tenant_id,
        line[-26:],
        parties=[signaling_pb2.LiveParty(aor="sip:4711@pbx.example", name="Me", role="agent", track=1)],
    )
    box.wait(lambda: any(one.call_id == own for one in box.control.parts.board.calls()))
    agent = box.enroll("agent", Role.AGENT, tenant_id=mine.tenant_id, agent="4711")
    seen = agent.calls.ListCalls(calls_pb2.ListCallsRequest(parent="tenants/-")).calls
    assert [one.name for one in seen] == [f"{parent}/calls/{own}"]
    other = next(name for name in mine.names if "/calls/" in name and name[-26:] in box.signaling.calls)
    for name, reason in ((f"{parent}/calls/{own}", "AGENT_RIGHT_MISSING"), (other, "CALL_NOT_FOUND")):
        with pytest.raises(grpc.RpcError) as caught:
            agent.calls.PauseCall(calls_pb2.PauseCallRequest(name=name))
        assert earwitness.details(caught.value).reason == reason
    admin.tenants.UpdateLine(
        tenants_pb2.UpdateLineRequest(line=tenants_pb2.Line(name=line, rights=tenants_pb2.RIGHTS_PAUSE))
    )
    agent.calls.PauseCall(calls_pb2.PauseCallRequest(name=f"{parent}/calls/{own}"))
    with pytest.raises(grpc.RpcError) as caught:
        agent.calls.StopCall(calls_pb2.StopCallRequest(name=f"{parent}/calls/{own}"))
    assert earwitness.details(caught.value).reason == "AGENT_RIGHT_MISSING"
    first = next(iter(agent.calls.WatchCalls(calls_pb2.WatchCallsRequest(parent="tenants/-"), timeout=5)))
    assert first.call.name.endswith(own)


def begun(box, mine, line, *aors: str) -> str:
    """A live call between these, known to control."""
    parties = [
        signaling_pb2.LiveParty(
            aor=aor, name=f"Party {place}", role="agent" if place else "caller", track=place
        )
        for place, aor in enumerate(aors)
    ]
    made = box.signaling.begin(mine.tenant_id, line[-26:], parties=parties)
    box.wait(lambda: any(one.call_id == made for one in box.control.parts.board.calls()))
    return made


@pytest.mark.parametrize("besides", [Role.TENANT_ADMINISTRATOR, Role.AUDITOR])
def test_who_is_an_agent_besides_something_that_sees_no_calls_sees_the_own_ones_alone(ground, besides):
    box, _, mine, _ = ground
    line = next(name for name in mine.names if "/lines/" in name and not name.endswith("Policy"))
    own = begun(box, mine, line, "sip:4711@pbx.example")
    agent = box.enroll("agent", Role.AGENT, besides, tenant_id=mine.tenant_id, agent="4711")
    seen = agent.calls.ListCalls(calls_pb2.ListCallsRequest(parent="tenants/-")).calls
    assert [one.name[-26:] for one in seen] == [own]
    other = next(name for name in mine.names if "/calls/" in name and name[-26:] in box.signaling.calls)
    for name, reason in ((other, "CALL_NOT_FOUND"), (seen[0].name, "AGENT_RIGHT_MISSING")):
        with pytest.raises(grpc.RpcError) as caught:
            agent.calls.StopCall(calls_pb2.StopCallRequest(name=name))
        assert earwitness.details(caught.value).reason == reason


def test_an_agent_without_a_number_sees_no_call_of_anonymous_callers(ground):
    box, _, mine, _ = ground
    line = next(name for name in mine.names if "/lines/" in name and not name.endswith("Policy"))
    begun(box, mine, line, "sip:anonymous@anonymous.invalid", "sip:12@pbx.example")
    agent = box.enroll("agent", Role.AGENT, tenant_id=mine.tenant_id)
    assert not agent.calls.ListCalls(calls_pb2.ListCallsRequest(parent="tenants/-")).calls


def test_a_call_that_an_agent_leaves_is_over_for_the_agent(ground):
    box, _, mine, _ = ground
    line = next(name for name in mine.names if "/lines/" in name and not name.endswith("Policy"))
    own = begun(box, mine, line, "sip:+447700900333@pstn.example", "sip:4711@pbx.example")
    agent = box.enroll("agent", Role.AGENT, tenant_id=mine.tenant_id, agent="4711")
    feed = agent.calls.WatchCalls(calls_pb2.WatchCallsRequest(parent="tenants/-"), timeout=20)
    assert next(one for one in feed if one.HasField("call")).call.name.endswith(own)
    after = signaling_pb2.LiveCall()
    after.CopyFrom(box.signaling.calls[own])
    after.parties[1].aor = "sip:4712@pbx.example"
    box.signaling.put(after)
    told = next(one for one in feed if one.HasField("call")).call
    assert told.state == calls_pb2.CALL_STATE_ENDED
    assert [one.address for one in told.parties][1] == "sip:4711@pbx.example"


def test_events_of_a_tenant_are_its_own(ground):
    box, _, mine, other = ground
    somebody = box.enroll("somebody", Role.AUDITOR, tenant_id=mine.tenant_id)
    feed = somebody.events.WatchEvents(
        events_pb2.WatchEventsRequest(parent="tenants/-", from_oldest=True), timeout=1.5
    )
    seen = []
    with pytest.raises(grpc.RpcError):
        for answer in feed:
            seen.append(answer)
    text = "".join(map(str, seen))
    assert mine.tenant_id in text and not any(one in text for one in other.ids)
