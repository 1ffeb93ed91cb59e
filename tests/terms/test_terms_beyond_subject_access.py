"""Beyond the terms, subject access: people who were recorded get what was said, and have its use restricted.

The promise: a request has the statutory clock; a pack holds what was chosen, with another's voice as digital silence,
and opens with the person's passphrase alone; what is restricted is kept, and not read.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_api_subjects import Desk, refused, samples

from earwitness.v1 import subjects_pb2 as pb


@pytest.fixture
def desk(box, sealing):
    return Desk(box, sealing)


def test_the_person_gets_what_was_said_and_not_what_others_said(desk: Desk):
    name = desk.call()
    plain, request = desk.wav(name), desk.open()
    assert request.due_date and request.days_left >= 28
    desk.choose(request.name, name, mutes=[pb.SubjectMute(party=1)], ground=pb.WITHHOLDING_GROUND_THIRD_PARTY)
    files = desk.opened(desk.made(request.name).name)
    sound = samples(files["audio/0001.wav"])
    assert plain[:, 1].any() and not sound[:, 1].any()
    assert np.array_equal(sound[:, 0], plain[:, 0])
    index = json.loads(files["index.json"])
    assert index["recordings"][0]["muted"][0]["whose"] == "agent" and index["complaint"]["to"]


def test_what_is_restricted_is_kept_and_not_read(desk: Desk):
    name = desk.call()
    restriction = pb.Restriction(
        ground=pb.RESTRICTION_GROUND_ACCURACY, reason="It was somebody else", recordings=[name]
    )
    made = desk.stub.CreateRestriction(
        pb.CreateRestrictionRequest(parent=desk.tenant, restriction=restriction)
    ).restriction
    assert refused(lambda: desk.wav(name)).reason == "RECORDING_RESTRICTED"
    lift = pb.LiftRestrictionRequest(name=made.name, reason="It was the person")
    desk.stub.LiftRestriction(lift)
    assert desk.wav(name).any(), "it was kept"
