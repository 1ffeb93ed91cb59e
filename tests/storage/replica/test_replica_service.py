"""Copies are brought back over the vault's socket: what would come, what came, who goes away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from conftest_process import Process, refused
from replica_kit import NAME, Pair
from test_replica_restore import check_erased, filed, lose
from test_replica_sidecars import annotate

from appliance.config.settings import Settings
from appliance.process import rpc
from appliance.process.interceptors import ErrorInterceptor
from appliance.storage.replica.errors import ReplicaBusyError
from appliance.storage.replica.service import ReplicaServicer
from appliance.storage.vault.contract import BucketId, Stream
from appliance.storage.vault.sidecars import Sidecars
from earwitness.internal.v1 import replicas_pb2 as pb
from earwitness.internal.v1 import replicas_pb2_grpc, retention_pb2

WAIT_S = 60.0


@pytest.fixture
def serve(pair: Pair) -> Iterator[Callable[[], replicas_pb2_grpc.ReplicaServiceStub]]:
    """Serves the pair as it is open now."""
    open_: list[Callable[[], object]] = []

    def made() -> replicas_pb2_grpc.ReplicaServiceStub:
        assert pair.replication is not None
        server = grpc.server(ThreadPoolExecutor(4), interceptors=[ErrorInterceptor()])
        servicer = ReplicaServicer(
            pair.house.parts, pair.replication, lambda: pair.ground.second(name="staging"), busy_s=1.0
        )
        replicas_pb2_grpc.add_ReplicaServiceServicer_to_server(servicer, server)
        pair.house.layout.socket("vault").parent.mkdir(parents=True, exist_ok=True)
        server.add_insecure_port(rpc.target(pair.house.layout, "vault"))
        server.start()
        channel = rpc.channel(pair.house.layout, "vault")
        open_.extend((lambda: server.stop(0).wait(), channel.close))
        return replicas_pb2_grpc.ReplicaServiceStub(channel)

    yield made
    while open_:
        open_.pop()()


def asks(*buckets: BucketId, **how: object) -> pb.RestoreBucketsRequest:
    named = [retention_pb2.Bucket(tenant_id=b.tenant_id, line_id=b.line_id, slice=b.slice) for b in buckets]
    return pb.RestoreBucketsRequest(**{"replica": NAME, "buckets": named, **how})


def ask(stub: replicas_pb2_grpc.ReplicaServiceStub, *buckets: BucketId, **how: object) -> pb.RestoreTotals:
    *steps, last = stub.RestoreBuckets(asks(*buckets, **how), timeout=WAIT_S)
    assert steps[-1].progress.done == steps[-1].progress.buckets, "all that was looked at"
    return last.totals


def test_what_would_come_is_what_comes_and_nothing_of_it_is_erased(pair: Pair, serve: Callable) -> None:
    pair.open()
    names = filed(pair, 4)
    annotate(pair, names[0], "one")
    pair.go()
    pair.house.eraser.erase(names[1:2], "asked")
    lose(pair)
    stub = serve()
    would = ask(stub, validate_only=True)
    assert (would.whole, would.merged, would.recordings, would.sidecars, would.erased) == (1, 0, 3, 1, 1)
    assert list(pair.vault.store.buckets()) == [], "nothing came"
    came = ask(stub)
    assert came == would, "and nothing is missing after it"
    for name in (names[0], *names[2:]):
        pair.house.check_readable(name)
    check_erased(pair, names[1])
    assert ask(stub) == ask(stub, validate_only=True) == pb.RestoreTotals()


def test_a_bucket_in_use_and_a_damaged_sidecar_get_what_they_lack(pair: Pair, serve: Callable) -> None:
    pair.open()
    names = filed(pair, 3)
    bucket = pair.vault.holding(names[0]).bucket
    annotate(pair, names[0], "one")
    pair.go()
    lose(pair)
    more = filed(pair, 1)
    annotate(pair, more[0], "other")
    stub = serve()
    would = ask(stub, bucket, validate_only=True)
    assert (would.whole, would.merged, would.recordings, would.sidecars) == (0, 1, 3, 1)
    assert ask(stub, bucket) == would
    for name in (*names, *more):
        pair.house.check_readable(name)
    assert Sidecars(pair.vault).read(names[0])


def test_what_cannot_be_is_refused(pair: Pair, serve: Callable) -> None:
    pair.open()
    (name,) = filed(pair, 1)
    pair.go()
    stub, bucket = serve(), pair.vault.holding(name).bucket
    other = BucketId(bucket.tenant_id, bucket.line_id, "1999-01")
    for dry in (True, False):
        assert refused(lambda dry=dry: ask(stub, other, validate_only=dry)) == (
            "NOT_FOUND",
            "REPLICA_COPY_UNKNOWN",
        )
        assert refused(lambda dry=dry: ask(stub, validate_only=dry, replica="south")) == (
            "NOT_FOUND",
            "REPLICA_UNKNOWN",
        )
    assert pair.replication is not None
    with pair.replication.target(NAME):
        assert refused(ask, stub) == ("UNAVAILABLE", "REPLICA_BUSY")


def test_who_goes_away_ends_it_and_asking_again_goes_on(pair: Pair, serve: Callable) -> None:
    pair.open()
    names = filed(pair, 3)
    bucket = pair.vault.holding(names[0]).bucket
    pair.go()
    pair.house.eraser.erase(names[:1], "asked")
    lose(pair)
    assert pair.replication is not None
    stub, send = serve(), pair.target.send
    begun: list[bool] = []

    def slow(*args: object, **words: object) -> Stream:
        stream = send(*args, **words)  # type: ignore[arg-type]

        def pieces() -> Iterator[bytes]:
            for piece in stream.pieces:
                begun.append(True)
                for _ in range(2 if len(begun) < 2 else 600):
                    time.sleep(0.05)
                    if len(begun) >= 2 and call.done():
                        break
                yield piece

        return type(stream)(stream.bucket, stream.snapshot, stream.base, pieces())

    pair.target.send = slow  # type: ignore[method-assign]
    call = stub.RestoreBuckets(asks())
    assert next(iter(call)).HasField("progress")
    while len(begun) < 2:
        time.sleep(0.01)
    call.cancel()
    until = time.monotonic() + WAIT_S
    while True:  # until the replica is let go of
        try:
            with pair.replication.target(NAME):
                break
        except ReplicaBusyError:
            assert time.monotonic() < until
            time.sleep(0.05)
    newest = pair.there(bucket)[-1]
    came = list(pair.vault.store.snapshots(bucket)) if bucket in pair.vault.store.buckets() else []
    assert newest not in {one.id.name for one in came}, "it ended before all had come"
    pair.target.send = send  # type: ignore[method-assign]
    assert ask(stub).whole == 1
    for name in names[1:]:
        pair.house.check_readable(name)
    check_erased(pair, names[0])


def test_the_process_offers_it(tmp_path: Path) -> None:
    process = Process(tmp_path / "data")
    settings = Settings.model_validate(
        {
            "data": process.layout.root,
            "vault": {"replicas": [{"name": NAME, "backend": "directory", "root": str(tmp_path / "north")}]},
        }
    )
    (process.layout.root / "settings.json").write_text(settings.model_dump_json())
    process.start()
    try:
        stub = replicas_pb2_grpc.ReplicaServiceStub(process.channel)
        assert ask(stub, validate_only=True) == ask(stub) == pb.RestoreTotals()
        assert refused(lambda: ask(stub, replica="south")) == ("NOT_FOUND", "REPLICA_UNKNOWN")
    finally:
        process.stop()
        process.house.let_go()
