"""EvidenceService: what an outsider needs to check a recording without the box."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from appliance.api import names
from appliance.api.errors import EvidenceLostError, EvidenceNotYetError
from appliance.api.parts import Parts
from appliance.audit import key, tree
from appliance.audit.checkpoints import Signed
from appliance.audit.trail import Trail
from appliance.catalog import recordings, sidecars, witnessed
from appliance.catalog.records import State
from appliance.catalog.witnessed import Witnessed
from appliance.storage.sealed.sidecar import parse
from earwitness.v1 import evidence_pb2 as pb
from earwitness.v1 import evidence_pb2_grpc

FORMAT: Final = "earwitness evidence v1"
KEYS_FORMAT: Final = "earwitness box keys v1"


class EvidenceOf(evidence_pb2_grpc.EvidenceServiceServicer):
    """See evidence.proto."""

    def __init__(self, parts: Parts, trail: Trail) -> None:
        self._parts = parts
        self._trail = trail

    async def GetEvidence(self, request: pb.GetEvidenceRequest, context: Any) -> pb.GetEvidenceResponse:
        tenant_id, recording_id = names.child(request.name, "recordings")
        await self._parts.store.read(lambda connection: recordings.get(connection, recording_id, tenant_id))
        found = await self._parts.store.read(lambda connection: witnessed.find(connection, recording_id))
        if found is None:
            raise EvidenceNotYetError("the recording does not stand in the log yet", recording=recording_id)
        sidecar = await self._sidecar(found)
        signed, proof = await asyncio.to_thread(self._proof, found)
        evidence = {
            "format": FORMAT,
            "entry": found.line,
            "index": found.number,
            "proof": [one.hex() for one in proof],
            "checkpoint": signed.note,
            "gaps": found.gaps,
        }
        return pb.GetEvidenceResponse(
            evidence=json.dumps(evidence, indent=1) + "\n",
            file_name=f"{recording_id}.sealed.evidence.json",
            sidecar=sidecar,
            sidecar_file_name=f"{recording_id}.sealed.sidecar" if sidecar else "",
        )

    async def _sidecar(self, found: Witnessed) -> bytes:
        """The sidecar that the log's newest entry speaks of; empty of a recording that has none, or is erased."""
        row, known = await self._parts.store.read(
            lambda c: (recordings.get(c, found.recording_id), sidecars.find(c, found.recording_id))
        )
        if row.state not in (State.FILED, State.DELETED) or not known.entries:
            return b""
        raw = await self._parts.vault.sidecar(found.recording_id)
        said = json.loads(found.line)
        head = parse(raw).head if raw else None
        if head is None or (head.entries, head.sha256) != (
            said.get("sidecar_entries"),
            said.get("sidecar_sha256"),
        ):
            raise EvidenceNotYetError(
                "what was added to the recording does not stand in the log yet", recording=found.recording_id
            )
        return raw

    def _proof(self, found: Witnessed) -> tuple[Signed, list[bytes]]:
        log = self._trail.log
        signed = log.sign()
        size = signed.checkpoint.size
        # After a break the log may have another entry there: then nothing proves this one any more.
        if not (
            found.number < size and log.hashes.get(0, found.number) == tree.leaf_hash(found.line.encode())
        ):
            raise EvidenceLostError(
                "the log was broken, and does not hold this recording's entry any more",
                recording=found.recording_id,
            )
        return signed, tree.inclusion_proof(found.number, size, log.hashes.get)

    async def GetBoxKeys(self, request: pb.GetBoxKeysRequest, context: Any) -> pb.GetBoxKeysResponse:
        log = self._trail.log
        device = (await self._parts.vault.status()).device_public_key
        keys = {
            "format": KEYS_FORMAT,
            "device_keys": [device.hex()],
            "audit_keys": [str(log.signer.named(key.origin(log.signer, log.generation)).verifier)],
        }
        return pb.GetBoxKeysResponse(keys=json.dumps(keys, indent=1) + "\n")
