"""Clause 7: the provider accesses recordings only when absolutely necessary to administer or check the service, or when
asked by the client, within the client's parameters.

The promise: provider identities can read nothing without a client's support grant, which says scope, purpose, from, until
and count; each use is shown to the client; a grant ends at once when it is revoked.
"""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from grants_kit import DAY, HOUR, SECOND, Ward, every_way, get, refused, stamp, stream, ward

from appliance.access.identities import Role
from appliance.model import new_id
from earwitness.v1 import box_pb2, events_pb2
from earwitness.v1 import grants_pb2 as pb
from earwitness.v1 import recordings_pb2 as rec

__all__ = ["ward"]  # a fixture
PERSONAL = ("Ada Lovelace", "Grace Hopper", "441632960001")


def test_the_provider_reads_nothing_without_a_grant(ward: Ward):
    """Everything that could tell of a recording answers as if there were none."""
    name, nothing = ward.file(), f"{ward.tenant}/recordings/{new_id()}"
    assert [one.reason for one in every_way(ward.support, name)] == ["RECORDING_NOT_FOUND"] * 4
    told = [[(one.code, one.message) for one in every_way(ward.support, which)] for which in (name, nothing)]
    assert told[0] == told[1], "nor does an answer tell that it is there"
    assert ward.listed() == []
    assert get(ward.officer, name).name == name, "it is there, for those whose it is"


def test_without_a_grant_the_provider_sees_health_and_counts_and_nobody(ward: Ward):
    """The service can be administered: the box answers, and no name or number is in what it says."""
    feed = ward.support.events.WatchEvents(events_pb2.WatchEventsRequest(parent="tenants/-"))
    next(feed)
    name = ward.file()
    while not (message := next(feed)).HasField("event"):
        pass
    feed.cancel()
    assert message.event.type == events_pb2.EVENT_TYPE_RECORDING_FILED and not message.event.subject
    services = ward.support.box
    seen = [
        str(services.GetBoxStatus(box_pb2.GetBoxStatusRequest())),
        str(services.GetVault(box_pb2.GetVaultRequest())),
        str(services.ListBuckets(box_pb2.ListBucketsRequest(parent="tenants/-"))),
        str(services.GetTenantStorage(box_pb2.GetTenantStorageRequest(name=ward.tenant))),
        str(message),
    ]
    assert all(seen)
    for text in seen:
        assert not any(one in text for one in (*PERSONAL, name.rpartition("/")[2]))


def test_the_provider_says_why_it_is_absolutely_necessary(ward: Ward):
    """A request without a reason is refused; the reason is what the client is shown."""
    name = ward.file()
    assert list(refused(lambda: ward.request(name, necessity="")).fields) == ["grant.necessity"]
    why = "Calls break off after a minute; nothing but the packets shows where."
    assert ward.get(ward.request(name, necessity=why)).necessity == why


def test_the_client_asks_for_help_without_being_asked(ward: Ward):
    """A records officer gives a grant to a named person; nobody else of the provider has it."""
    name = ward.file()
    asked = pb.CreateGrantRequest(
        parent=ward.tenant, grant=ward.terms(name, identities=["support.bob"], necessity="")
    )
    ward.officer.grants.CreateGrant(asked)
    assert ward.read(name, ward.other)[1]
    assert refused(lambda: ward.read(name)).reason == "RECORDING_NOT_FOUND"


def test_scope(ward: Ward):
    """What was not asked for stays closed, and so does what is filed after the client has approved."""
    start = 1_764_000_000
    inside = ward.file(start_ns=start * SECOND)
    outside = ward.file(start_ns=(start - 2 * DAY) * SECOND)
    scope = pb.GrantScope(
        from_time=Timestamp(seconds=start - HOUR),
        to_time=Timestamp(seconds=start + HOUR),
        filter="whole=true",
    )
    ward.granted(scope=scope)
    later = ward.file(start_ns=start * SECOND)
    assert ward.read(inside)[1]
    for name in (outside, later):
        assert refused(lambda name=name: ward.read(name)).reason == "RECORDING_NOT_FOUND"
    assert [one.name for one in ward.listed()] == [inside]


def test_the_client_narrows_and_nobody_widens(ward: Ward):
    """The client's parameters are the client's: fewer recordings, fewer reads, a shorter time, no names; never more."""
    first, second = ward.file(), ward.file()
    asked = ward.request(first, second, include_parties=True)
    narrowed = ward.approve(
        asked, scope=pb.GrantScope(recordings=[first]), max_reads=1, exclude_parties=True,
        end_time=stamp(60, ward.box.clock),
    )  # fmt: skip
    assert (list(narrowed.recordings), narrowed.max_reads, narrowed.include_parties) == ([first], 1, False)
    assert refused(lambda: ward.read(second)).reason == "RECORDING_NOT_FOUND"
    other = ward.request(first)
    assert refused(lambda: ward.approve(other, max_reads=4)).reason == "GRANT_WIDENED"
    assert refused(lambda: ward.approve(other, end_time=stamp(2 * HOUR))).reason == "GRANT_WIDENED"


def test_purpose(ward: Ward):
    """A read under the grant is for the grant's purpose and for no other."""
    name = ward.file()
    grant = ward.granted(name)
    assert refused(lambda: ward.read(name, purpose="training")).reason == "GRANT_PURPOSE"
    assert refused(lambda: ward.read(name, purpose="")).reason == "PURPOSE_NEEDED"
    assert not ward.uses(grant)
    assert ward.read(name)[1]


def test_from_and_until(ward: Ward):
    """Before its beginning and after its end it opens nothing, and no clock that is set back brings it to life again."""
    name = ward.file()
    grant = ward.granted(
        name, begin_time=stamp(HOUR, ward.box.clock), end_time=stamp(2 * HOUR, ward.box.clock)
    )
    assert refused(lambda: ward.read(name)).reason == "RECORDING_NOT_FOUND"
    ward.box.clock.ahead_ns = (HOUR + 60) * SECOND
    assert ward.read(name)[1]
    ward.box.clock.ahead_ns = (2 * HOUR + 60) * SECOND
    assert refused(lambda: ward.read(name)).reason == "RECORDING_NOT_FOUND"
    ward.box.clock.ahead_ns = (HOUR + 60) * SECOND
    assert refused(lambda: ward.read(name)).reason == "RECORDING_NOT_FOUND"
    assert ward.get(grant).state == pb.GRANT_STATE_EXPIRED
    for_ever = {"end_time": stamp(365 * DAY, ward.box.clock)}
    assert list(refused(lambda: ward.request(name, **for_ever)).fields) == ["grant.end_time"]


def test_count(ward: Ward):
    """As often as the client said, and not once more."""
    name = ward.file()
    grant = ward.granted(name, max_reads=2)
    for _ in range(2):
        assert ward.read(name)[1]
    assert refused(lambda: ward.read(name)).reason == "RECORDING_NOT_FOUND"
    assert ward.get(grant).state == pb.GRANT_STATE_USED_UP and len(ward.uses(grant)) == 2


def test_each_use_is_shown_to_the_client(ward: Ward):
    """In the grant, in the client's feed and in the client's audit: who, when, which recording, how."""
    name = ward.file()
    feed = ward.officer.events.WatchEvents(
        events_pb2.WatchEventsRequest(parent=ward.tenant, types=[events_pb2.EVENT_TYPE_GRANT_USED])
    )
    next(feed)
    grant = ward.granted(name)
    list(ward.support.recordings.VerifyRecording(rec.VerifyRecordingRequest(name=name)))
    (use,) = ward.uses(grant)
    assert (use.identity, use.recording, use.kind) == ("support.ada", name, pb.GRANT_USE_KIND_VERIFY)
    while not (message := next(feed)).HasField("event"):
        pass
    feed.cancel()
    assert message.event.subject == grant.name and name in message.event.message
    entries = [one for one in ward.box.audited() if one["what"] == "grant-use"]
    assert [(one["who"], one["tenant"], one["grant"], one["subject"]) for one in entries] == [
        ("support.ada", ward.tenant_id, grant.name, name)
    ]


def test_revoked_it_ends_at_once(ward: Ward):
    """What is being read breaks off; nothing is read after it."""
    name = ward.file(seconds=400, noise=3)
    grant = ward.granted(name)
    reading = stream(ward, name)
    ward.officer.grants.RevokeGrant(pb.RevokeGrantRequest(name=grant.name))
    assert refused(lambda: list(reading)).reason == "GRANT_ENDED"
    assert [one.reason for one in every_way(ward.support, name)] == ["RECORDING_NOT_FOUND"] * 4


def test_only_the_client_approves(ward: Ward):
    """Neither who asks nor who runs the box."""
    asked = ward.request(ward.file())
    for client in (ward.support, ward.other, ward.box.enroll("runs-the-box", Role.OPERATOR)):
        found = refused(lambda client=client: approve(client, asked))
        assert found.reason == "METHOD_DENIED"


def approve(client, asked: pb.SupportGrant):
    return client.grants.ApproveGrant(pb.ApproveGrantRequest(name=asked.name))
