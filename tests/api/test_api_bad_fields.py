"""Every field of every request with what nobody should send: a clear refusal, never a fault, and nothing half done."""

from __future__ import annotations

import grpc
import pytest
from anycall import Method, Outcome, call, methods
from google.protobuf.descriptor import FieldDescriptor

import earwitness
from appliance.api.limits import RateLimit
from appliance.model import new_id
from earwitness.v1 import recordings_pb2, review_pb2, subjects_pb2, tenants_pb2

MOST_DEPTH = 3
TEXTS = {
    "too long": "x" * 100_000,
    "control characters": "a\x00b\x1b[2J\r\n",
    "a line feed": "Ward 7\nforged",
    "another script's digits": "٠١٢٣٤٥٦٧٨٩" * 4,
    "turned around": "\u202efdp.exe",
    "another kind of name": "tenants/-/unknowns/-",
    "a path": "../../etc/passwd",
    "a question": "' OR 1=1 --",
    "a format": "%s%n{0}${jndi:x}",
}
NUMBERS = (-(2**31), -1, 2**31 - 1)
REFUSALS = {
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "PERMISSION_DENIED",
    "ABORTED",
    "ALREADY_EXISTS",
    "OUT_OF_RANGE",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
}
# Change the box for everybody, or ask another process than control about something that nobody named.
BOXWIDE = ("/RunRetention", "/RebuildCatalogue", "/AcceptRetentionClock")


def paths(method: Method):
    """Every field that can be reached, as the way to it: names of fields, messages in lists taken once."""

    def walk(descriptor, way, depth):
        for field in descriptor.fields:
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                continue
            here = [*way, field]
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                if depth < MOST_DEPTH:
                    yield from walk(field.message_type, here, depth + 1)
            else:
                yield here

    yield from walk(method.descriptor.input_type, [], 0)


def wrong_values(field: FieldDescriptor):
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            yield from TEXTS.values()
        case FieldDescriptor.TYPE_BYTES:
            yield b"\xff" * 70_000
        case FieldDescriptor.TYPE_ENUM:
            yield 999
        case FieldDescriptor.TYPE_BOOL:
            return
        case FieldDescriptor.TYPE_UINT32 | FieldDescriptor.TYPE_UINT64 | FieldDescriptor.TYPE_FIXED32:
            yield 2**32 - 1
        case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
            yield from (float("nan"), float("inf"), -1.0)
        case _:
            yield from NUMBERS


def put(request, way, value) -> None:
    """Set the field at the end of the way."""
    message = request
    for field in way[:-1]:
        message = getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)
        if not field.is_repeated:
            message.SetInParent()
    last = way[-1]
    if last.is_repeated:
        getattr(message, last.name).append(value)
    else:
        setattr(message, last.name, value)


def fitting(request, names: dict[str, str]) -> None:
    """What the request is about exists, so that it is the wrong field that is refused."""
    fields = {field.name for field in request.DESCRIPTOR.fields}
    kind = request.DESCRIPTOR.name
    if "name" in fields:
        request.name = next((name for word, name in names.items() if word in kind), names["Tenant"])
    if "parent" in fields:
        request.parent = names["Tenant"]
    if "validate_only" in fields:
        request.validate_only = True


@pytest.fixture
def ground(make_box, sealing):
    box = make_box(rate=RateLimit(1e6, 1e6))
    tenant_id, line_id = box.default_line()
    recording_id = box.vault.file(sealing(tenant_id, line_id))
    box.filed(recording_id)
    parent = f"tenants/{tenant_id}"
    asked = subjects_pb2.SubjectRequest(
        reference="x",
        receive_date="2025-11-24",
        numbers=[subjects_pb2.SubjectNumber(number="0163296", own=True)],
    )
    request = subjects_pb2.CreateSubjectRequestRequest(parent=parent, subject_request=asked)
    subject = box.client().subjects.CreateSubjectRequest(request).subject_request.name
    card = review_pb2.Scorecard(
        display_name="x",
        questions=[review_pb2.Question(question="a", text="A?", kind=review_pb2.QUESTION_KIND_YES_NO)],
    )
    stub = box.client().review
    request = review_pb2.CreateScorecardRequest(parent=parent, scorecard=card)
    scorecard = stub.CreateScorecard(request).scorecard.name
    rule = review_pb2.ReviewRule(display_name="x", scorecard=scorecard, draw=review_pb2.REVIEW_DRAW_ALL)
    request = review_pb2.CreateReviewRuleRequest(parent=parent, rule=rule)
    rule = stub.CreateReviewRule(request).rule.name
    review = review_pb2.Review(recording=f"{parent}/recordings/{recording_id}", scorecard=scorecard)
    review = stub.CreateReview(review_pb2.CreateReviewRequest(parent=parent, review=review)).review.name
    stub.ClaimReview(review_pb2.ClaimReviewRequest(name=review))
    names = {
        "Scorecard": scorecard,
        "ReviewRule": rule,
        "ReviewSettings": f"{parent}/reviewSettings",
        "Review": review,
        **dict.fromkeys(("SubjectRequest", "SubjectClock", "SubjectChoice", "MakeSubjectPack"), subject),
        "Line": f"{parent}/lines/{line_id}",
        "Recording": f"{parent}/recordings/{recording_id}",
        "Waveform": f"{parent}/recordings/{recording_id}",
        "Retention": f"{parent}/retentionPolicy",
        "Tenant": parent,
    }
    return box, box.client(), names


def is_told(outcome: Outcome) -> bool:
    """A refusal with a reason of the house."""
    return outcome.code in REFUSALS and bool(outcome.reason)


def tried_of(service: str) -> list[Method]:
    """The methods of a service that are tried."""
    found = [one for one in methods() if one.path.split("/")[1] == service]
    return [one for one in found if not (one.watches or one.path.endswith(BOXWIDE))]


SERVICES = [one for one in sorted({one.path.split("/")[1] for one in methods()}) if tried_of(one)]


@pytest.mark.parametrize("service", SERVICES)
def test_no_field_makes_a_fault(ground, service):
    _, client, names = ground
    before = client.tenants.ListLines(tenants_pb2.ListLinesRequest(parent="tenants/-"))
    faults, untold, tried = [], [], 0
    for method in tried_of(service):
        for way in paths(method):
            for value in wrong_values(way[-1]):
                request = method.request_type()
                fitting(request, names)
                try:
                    put(request, way, value)
                except ValueError:
                    continue  # the message itself does not take it
                outcome = call(client.channel, method, request)
                tried += 1
                place = (method.path, ".".join(one.name for one in way), repr(value)[:40], outcome.code)
                if outcome.code in ("UNKNOWN", "INTERNAL", "DEADLINE_EXCEEDED", "DATA_LOSS"):
                    faults.append(place)
                elif outcome.code != "OK" and not is_told(outcome):
                    untold.append((*place, outcome.reason))
    assert not faults
    assert not untold
    assert tried > 5
    assert client.tenants.ListLines(tenants_pb2.ListLinesRequest(parent="tenants/-")) == before


@pytest.mark.parametrize("service", SERVICES)
def test_what_was_sent_is_not_repeated(ground, service):
    """A refusal does not carry the text back: logs and consoles would show it."""
    _, client, names = ground
    secret = "\x1b[31mAda Lovelace 07700900123\n"
    repeated = []
    for method in tried_of(service):
        for way in paths(method):
            if way[-1].type != FieldDescriptor.TYPE_STRING:
                continue
            request = method.request_type()
            fitting(request, names)
            put(request, way, secret)
            outcome = call(client.channel, method, request)
            if outcome.code != "OK" and (b"07700900123" in outcome.raw or b"\x1b[31m" in outcome.raw):
                repeated.append((method.path, ".".join(one.name for one in way)))
    assert not repeated


def test_a_message_that_is_none_and_one_that_is_too_large(ground):
    box, client, _ = ground
    bare = client.channel.unary_unary("/earwitness.v1.TenantsService/CreateTenant")
    for raw, code in (
        (b"\xff\xff\xff", "INVALID_ARGUMENT"),
        (b"\x0a" + b"\xff" * (2 << 20), "RESOURCE_EXHAUSTED"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            bare(raw, timeout=10)
        assert caught.value.code().name == code
    assert box.control is not None


def test_a_name_of_another_kind_is_named_as_the_field(ground):
    _, client, _ = ground
    with pytest.raises(grpc.RpcError) as caught:
        client.recordings.GetRecording(recordings_pb2.GetRecordingRequest(name=f"tenants/-/lines/{new_id()}"))
    found = earwitness.details(caught.value)
    assert (found.reason, set(found.fields)) == ("NAME_INVALID", {"name"})
