"""Frames come whole or not at all."""

from __future__ import annotations

import io

import pytest

from appliance.storage.vault.zfs import frames


def test_what_is_packed_is_read() -> None:
    stream = io.BytesIO(frames.pack({"id": 1, "op": "é"}, b"\0" * 9) + frames.pack({"id": 2}))
    assert frames.read(stream) == ({"id": 1, "op": "é"}, b"\0" * 9)
    assert frames.read(stream) == ({"id": 2}, b"")
    assert frames.read(stream) is None


def test_what_is_cut_or_garbled_is_no_frame() -> None:
    whole = frames.pack({"id": 1}, b"payload")
    for cut in range(1, len(whole)):
        with pytest.raises(frames.FrameError):
            frames.read(io.BytesIO(whole[:cut]))
    for wrong in (b"\xff" * 64, b"\0\0\0\2\0\0\0\0[]", b"\0\0\0\2\0\0\0\0{x"):
        with pytest.raises(frames.FrameError):
            frames.read(io.BytesIO(wrong))
