"""What there is one of for completeness, put together."""

from __future__ import annotations

from appliance.api.completeness import Completeness
from appliance.api.completenessdays import Days
from appliance.api.completenessimport import Importer
from appliance.api.completenesswatch import Watch
from appliance.api.parts import Parts
from appliance.audit.trail import Trail


class CompletenessWork:
    """The servicer, and the work that goes on by itself."""

    def __init__(self, parts: Parts, trail: Trail) -> None:
        self.days = Days(parts.store, trail, parts.clock_ns)
        importer = Importer(parts.store, self.days, parts.clock_ns)
        self.servicer = Completeness(parts, importer)
        self.watch = Watch(
            parts.store, trail, self.days, importer, parts.settings.completeness, parts.clock_ns
        )
