"""Kinds of alarms that conditions of processes are: the names are the conditions' types."""

from __future__ import annotations

from typing import Final

from appliance.alarms import accesskinds, callkinds, vaultkinds

CONDITIONS: Final = (*callkinds.KINDS, *vaultkinds.KINDS, *accesskinds.KINDS)
