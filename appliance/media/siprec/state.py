"""The state of one recording session as JSON can carry it: capture keeps it in memory for signaling (`context`)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from appliance.media.siprec.hints import Hints
from appliance.media.siprec.model import CallData, Metadata
from appliance.model import Direction, Party, PayloadFormat


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        ser_json_bytes="base64",
        val_json_bytes="base64",
        hide_input_in_errors=True,
    )


class TrackState(_Model):
    """One track: one direction of media from one participant.

    `line` is the index of its media line, -1 while it has none. `suite` and `key_salt` are the sender's (SDES), `own_*`
    ours, which an answer must name. Ports are 0 until capture has opened them.
    """

    number: int
    line: int = -1
    label: str = ""
    party: int = -1
    active: bool = True
    formats: tuple[PayloadFormat, ...] = ()
    suite: str = ""
    key_salt: bytes = b""
    own_suite: str = ""
    own_key: bytes = b""
    mux: bool = False
    rtp_port: int = 0
    rtcp_port: int = 0

    def __repr__(self) -> str:
        return f"TrackState({self.number}, line={self.line}, active={self.active}, port={self.rtp_port})"


class PeopleState(_Model):
    """Who takes part. `index` leads from participant ids to parties; `here` are the parties present now."""

    parties: tuple[Party, ...] = ()
    index: dict[str, int] = {}
    here: tuple[int, ...] = ()
    from_headers: bool = False
    direction: Direction = Direction.UNKNOWN

    def __repr__(self) -> str:
        return f"PeopleState({len(self.parties)} parties)"


class SessionState(_Model):
    """Everything `srs.RecordingSession` knows. `sdp` is what we sent last, `theirs` the last offer, `offered` whether
    ours waits for an answer."""

    tracks: tuple[TrackState, ...] = ()
    people: PeopleState = PeopleState()
    metadata: Metadata | None = None
    call: CallData = CallData()
    hints: Hints = Hints()
    flags: tuple[str, ...] = ()
    voice_flags: tuple[str, ...] = ()
    sdp: bytes = b""
    theirs: bytes = b""
    offered: bool = False

    def __repr__(self) -> str:
        return f"SessionState({len(self.tracks)} tracks)"
