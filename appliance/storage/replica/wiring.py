"""Replicas as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import grpc

from appliance.config.settings import ReplicaSettings, Settings
from appliance.storage.replica.local import LocalTarget
from appliance.storage.replica.replication import Replication
from appliance.storage.replica.service import ReplicaServicer
from appliance.storage.vault.assembly import Assembly
from appliance.storage.vault.openstore import open_other, open_staging
from earwitness.internal.v1 import replicas_pb2_grpc


def replication(parts: Assembly, settings: Settings) -> Replication:
    """All replicas of a box; each is connected to when it is needed first."""
    connects = {one.name: partial(connect, settings, one) for one in settings.vault.replicas}
    return Replication(parts.vault, connects)


def offered(parts: Assembly, settings: Settings) -> tuple[Replication, Callable[[grpc.Server], None]]:
    """The replicas, and what puts their service on a server."""
    found = replication(parts, settings)
    servicer = ReplicaServicer(parts, found, partial(open_staging, settings))
    return found, partial(replicas_pb2_grpc.add_ReplicaServiceServicer_to_server, servicer)


def connect(settings: Settings, replica: ReplicaSettings) -> LocalTarget:
    """A replica in a second store. Errors of the store, and as LocalTarget."""
    store = open_other(settings, replica, replica.name)
    try:
        return LocalTarget(store, state_of(settings, replica), replica.name)
    except BaseException:
        store.close()
        raise


def state_of(settings: Settings, replica: ReplicaSettings) -> Path:
    """Where a replica keeps what it knows of itself."""
    if replica.state is not None:
        return replica.state
    if replica.backend == "directory":
        return Path(replica.root) / "replica"
    return settings.layout.root / "replicas" / replica.name
