"""ReplicaService: copies are brought back over gRPC on the vault's socket. No rule of replication lives here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Final

import grpc
import structlog

from appliance.model import EarwitnessError
from appliance.storage.names import BucketId
from appliance.storage.replica.errors import ReplicaBusyError, ReplicationStoppedError
from appliance.storage.replica.replication import Replication
from appliance.storage.replica.restore import Advance, Restored, restore_from
from appliance.storage.replica.target import ReplicaTarget
from appliance.storage.vault.assembly import Assembly
from appliance.storage.vault.bucketservice import PROGRESS_EVERY_S
from appliance.storage.vault.contract import BucketStore
from appliance.storage.vault.retentionmessages import bucket_message
from earwitness.internal.v1 import replicas_pb2 as pb
from earwitness.internal.v1 import replicas_pb2_grpc

BUSY_S: Final = 30.0
"""How long a round with the replica, which goes on, is waited for."""
MOST_FAILURES: Final = 1000
_AGAIN_S: Final = 0.2

log = structlog.get_logger()


class ReplicaServicer(replicas_pb2_grpc.ReplicaServiceServicer):
    """See replicas.proto. `open_staging`: the store through which recordings come into a bucket that is in use."""

    def __init__(
        self,
        parts: Assembly,
        replication: Replication,
        open_staging: Callable[[], BucketStore],
        *,
        busy_s: float = BUSY_S,
    ) -> None:
        self._parts = parts
        self._replication = replication
        self._open_staging = open_staging
        self._busy_s = busy_s

    def RestoreBuckets(
        self, request: pb.RestoreBucketsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.RestoreBucketsResponse]:
        """See replicas.proto."""
        running = _Running(lambda one: self._restore(request, one), lambda: self._replication.stopping)
        if not context.add_callback(running.stop):
            running.stop()
        while not running.ended.wait(PROGRESS_EVERY_S):
            yield pb.RestoreBucketsResponse(progress=_progress(running.advance))
        totals = _totals(running.result())
        yield pb.RestoreBucketsResponse(progress=_progress(running.advance))
        yield pb.RestoreBucketsResponse(totals=totals)

    def _restore(self, request: pb.RestoreBucketsRequest, running: _Running) -> Restored:
        buckets = [BucketId(one.tenant_id, one.line_id, one.slice) for one in request.buckets]
        with ExitStack() as stack:
            target = stack.enter_context(self._alone(request.replica, running.going_on))
            staging = None
            if not request.validate_only:
                staging = stack.enter_context(closing(self._open_staging()))
            return restore_from(
                self._parts,
                target,
                buckets,
                staging=staging,
                dry=request.validate_only,
                advance=running.advance,
                going_on=running.going_on,
            )

    @contextmanager
    def _alone(self, name: str, going_on: Callable[[], None]) -> Iterator[ReplicaTarget]:
        """The replica, when the round that goes on has ended. As Replication.target."""
        until = time.monotonic() + self._busy_s
        with ExitStack() as stack:
            while True:
                try:
                    target = stack.enter_context(self._replication.target(name))
                    break
                except ReplicaBusyError:
                    if time.monotonic() >= until:
                        raise
                    going_on()
                    time.sleep(_AGAIN_S)
            yield target


class _Running:
    """It goes on in a thread of its own, until it is done or `stop`. `stopping`: whether the process is about to stop."""

    def __init__(self, do: Callable[[_Running], Restored], stopping: Callable[[], bool]) -> None:
        self.advance = Advance()
        self.ended = threading.Event()
        self._stopped = threading.Event()
        self._stopping = stopping
        self._restored: Restored | None = None
        self._error: Exception | None = None
        threading.Thread(target=self._run, args=(do,), name="restore", daemon=True).start()

    def stop(self) -> None:
        """It ends soon."""
        self._stopped.set()

    def going_on(self) -> None:
        """ReplicationStoppedError after `stop`, and where the process is about to stop."""
        if self._stopped.is_set() or self._stopping():
            raise ReplicationStoppedError("bringing back was ended: asked again, it goes on")

    def _run(self, do: Callable[[_Running], Restored]) -> None:
        try:
            self._restored = do(self)
        except Exception as error:  # noqa: BLE001 - raised again by `result`
            reason = error.reason if isinstance(error, EarwitnessError) else type(error).__name__
            log.warning("bringing back has ended", reason=reason)
            self._error = error
        finally:
            self.ended.set()

    def result(self) -> Restored:
        """What came, or what it raised."""
        if self._error is not None:
            raise self._error
        assert self._restored is not None
        return self._restored


def _progress(advance: Advance) -> pb.RestoreProgress:
    return pb.RestoreProgress(done=advance.done, buckets=advance.buckets, bytes=advance.bytes)


def _totals(done: Restored) -> pb.RestoreTotals:
    failures = [
        pb.RestoreFailure(bucket=bucket_message(bucket), reason=error.reason, message=error.message)
        for bucket, error in list(done.failed.items())
    ]
    return pb.RestoreTotals(
        whole=len(done.whole),
        merged=len(done.merged),
        recordings=done.recordings,
        sidecars=done.sidecars,
        erased=done.erased,
        expired=len(done.keyless),
        failures=failures[:MOST_FAILURES],
        failed=len(failures),
        missing=done.reconciled.missing if done.reconciled else 0,
    )
