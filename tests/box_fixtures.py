"""The boxes of tests/api, for tests elsewhere: import the fixtures that are wanted."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_API = Path(__file__).parent / "api"
if str(_API) not in sys.path:
    sys.path.append(str(_API))  # what its fixtures stand on

_spec = importlib.util.spec_from_file_location("api_boxes", _API / "conftest.py")
assert _spec is not None and _spec.loader is not None
_boxes = importlib.util.module_from_spec(_spec)
sys.modules["api_boxes"] = _boxes
_spec.loader.exec_module(_boxes)

sample_prompts = _boxes.sample_prompts
make_box = _boxes.make_box
box = _boxes.box
sealing = _boxes.sealing
pause_mark = _boxes.pause_mark
