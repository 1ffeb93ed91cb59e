"""What the terms promise is tried on the boxes of tests/api."""

from __future__ import annotations

from box_fixtures import box, make_box, pause_mark, sample_prompts, sealing

__all__ = ["box", "make_box", "pause_mark", "sample_prompts", "sealing"]
