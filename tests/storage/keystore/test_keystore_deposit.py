"""Deposits: what capture hands over opens for the vault alone, and nothing in it can be moved."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import InvalidError, UnavailableError, id_bytes, new_id
from appliance.storage.keystore import (
    Depositor,
    DepositRequest,
    hpke,
    load_deposit_key,
    open_deposit,
    publish_deposit_key,
)
from appliance.storage.keystore.deposit import HEADER_BYTES, recordings_of
from appliance.storage.keystore.errors import (
    DepositCorruptError,
    DepositKeyUnknownError,
    KeyFormatError,
    KeyRefusedError,
)
from appliance.storage.keystore.wrap import unseal_intermediate, unwrap_data_key

VAULT = hpke.new_private_key()
VAULT_PUBLIC = hpke.public_key(VAULT)
TENANT = hpke.new_private_key()
TENANT_PUBLIC = hpke.public_key(TENANT)
KEYS = {hpke.key_id(VAULT_PUBLIC): VAULT}


def read_back(raw: bytes, tenant_private: bytes) -> dict[bytes, bytes]:
    """Data keys by raw recording id."""
    deposit = open_deposit(raw, KEYS)
    sealed = {item.id: item for item in deposit.intermediates}
    found = {}
    for record in deposit.records:
        above = sealed[record.intermediate]
        key = unseal_intermediate(tenant_private, above.tenant, above.id, above.sealed)
        found[record.recording] = unwrap_data_key(
            key, record.counter, above.tenant, above.id, record.recording, record.wrapped
        )
    return found


def test_a_deposit_gives_the_key_back_to_vault_and_tenant_together() -> None:
    depositor, recording, tenant = Depositor(), new_id(), new_id()
    key = depositor.new_data_key()
    raw = depositor.deposit(recording, tenant, TENANT_PUBLIC, VAULT_PUBLIC, key, 0)
    assert read_back(raw, TENANT) == {id_bytes(recording): key}
    assert key not in raw and id_bytes(recording) not in raw and id_bytes(tenant) not in raw
    with pytest.raises(KeyRefusedError):
        read_back(raw, hpke.new_private_key())


def test_many_recordings_of_several_tenants_share_a_deposit_and_their_intermediate_keys() -> None:
    depositor = Depositor()
    tenants = [new_id(), new_id()]
    requests = [
        DepositRequest(new_id(), tenants[i % 2], TENANT_PUBLIC, depositor.new_data_key()) for i in range(10)
    ]
    raw = depositor.deposit_many(requests, VAULT_PUBLIC, 0)
    assert len(raw) == 1176 + 10 * 72 + 2 * 1200
    opened = open_deposit(raw, KEYS)
    assert recordings_of(opened) == [request.recording_id for request in requests]
    assert len(opened.intermediates) == 2
    assert read_back(raw, TENANT) == {id_bytes(item.recording_id): item.data_key for item in requests}


def test_an_intermediate_key_is_forgotten_after_its_time_and_when_the_clock_goes_back() -> None:
    depositor, tenant = Depositor(lifetime_ns=100), new_id()

    def name(now: int) -> bytes:
        raw = depositor.deposit(new_id(), tenant, TENANT_PUBLIC, VAULT_PUBLIC, bytes(32), now)
        return open_deposit(raw, KEYS).intermediates[0].id

    first = name(1000)
    assert name(1099) == first
    second = name(1100)
    assert second != first
    assert name(900) != second
    depositor.forget(5000)
    # Nothing that could open earlier deposits is left in the worker's memory.
    assert not depositor._held


def test_a_counter_never_comes_twice_under_one_intermediate_key() -> None:
    depositor, tenant = Depositor(), new_id()
    seen = set()
    for _ in range(20):
        raw = depositor.deposit(new_id(), tenant, TENANT_PUBLIC, VAULT_PUBLIC, bytes(32), 0)
        record = open_deposit(raw, KEYS).records[0]
        seen.add((record.intermediate, record.counter))
    assert len(seen) == 20


def test_a_new_public_key_of_the_tenant_gets_an_intermediate_key_of_its_own() -> None:
    depositor, tenant, other = Depositor(), new_id(), hpke.new_private_key()
    depositor.deposit(new_id(), tenant, TENANT_PUBLIC, VAULT_PUBLIC, bytes(32), 0)
    raw = depositor.deposit(new_id(), tenant, hpke.public_key(other), VAULT_PUBLIC, b"k" * 32, 0)
    assert list(read_back(raw, other).values()) == [b"k" * 32]


def test_a_record_moved_to_another_recording_or_tenant_does_not_open() -> None:
    depositor, tenant = Depositor(), new_id()
    raw = depositor.deposit(new_id(), tenant, TENANT_PUBLIC, VAULT_PUBLIC, bytes(32), 0)
    deposit = open_deposit(raw, KEYS)
    above, record = deposit.intermediates[0], deposit.records[0]
    key = unseal_intermediate(TENANT, above.tenant, above.id, above.sealed)
    with pytest.raises(KeyRefusedError):
        unwrap_data_key(key, record.counter, above.tenant, above.id, id_bytes(new_id()), record.wrapped)
    with pytest.raises(KeyRefusedError):
        unwrap_data_key(key, record.counter, id_bytes(new_id()), above.id, record.recording, record.wrapped)
    with pytest.raises(KeyRefusedError):
        unseal_intermediate(TENANT, id_bytes(new_id()), above.id, above.sealed)


def test_an_unknown_deposit_key_is_told_apart_from_damage() -> None:
    raw = Depositor().deposit(new_id(), new_id(), TENANT_PUBLIC, VAULT_PUBLIC, bytes(32), 0)
    with pytest.raises(DepositKeyUnknownError) as unknown:
        open_deposit(raw, {})
    assert unknown.value.data["key_id"] == hpke.key_id(VAULT_PUBLIC).hex()
    for at in (0, 9, HEADER_BYTES, HEADER_BYTES + 1200, len(raw) - 1):
        flipped = bytearray(raw)
        flipped[at] ^= 1
        with pytest.raises(DepositCorruptError):
            open_deposit(bytes(flipped), KEYS)
    for length in (0, 8, HEADER_BYTES, HEADER_BYTES + 100, len(raw) - 1):
        with pytest.raises(DepositCorruptError):
            open_deposit(raw[:length], KEYS)


@given(st.binary(max_size=4000))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_deposit_or_refused_with_a_reason(raw: bytes) -> None:
    with pytest.raises((DepositCorruptError, DepositKeyUnknownError)):
        open_deposit(raw, KEYS)


@given(st.binary(max_size=3000))
@settings(max_examples=100, deadline=None)
def test_any_content_sealed_to_the_vault_is_parsed_or_refused(body: bytes) -> None:
    header = Depositor().deposit(new_id(), new_id(), TENANT_PUBLIC, VAULT_PUBLIC, bytes(32), 0)[:HEADER_BYTES]
    raw = header + hpke.seal(VAULT_PUBLIC, body, b"earwitness deposit v1\x00" + header)
    try:
        opened = open_deposit(raw, KEYS)
    except DepositCorruptError:
        return
    names = {item.id for item in opened.intermediates}
    assert all(record.intermediate in names for record in opened.records)


def test_malformed_requests_are_refused() -> None:
    depositor = Depositor()
    with pytest.raises(InvalidError):
        depositor.deposit("no-id", new_id(), TENANT_PUBLIC, VAULT_PUBLIC, bytes(32), 0)
    with pytest.raises(KeyFormatError):
        depositor.deposit(new_id(), new_id(), TENANT_PUBLIC, VAULT_PUBLIC, bytes(31), 0)
    with pytest.raises(KeyFormatError):
        depositor.deposit(new_id(), new_id(), TENANT_PUBLIC[:-1], VAULT_PUBLIC, bytes(32), 0)
    with pytest.raises(KeyFormatError):
        depositor.deposit(new_id(), new_id(), TENANT_PUBLIC, bytes(len(VAULT_PUBLIC)), bytes(32), 0)
    with pytest.raises(KeyFormatError):
        depositor.deposit_many([], VAULT_PUBLIC, 0)


def test_keys_do_not_show_when_printed() -> None:
    request = DepositRequest(new_id(), new_id(), TENANT_PUBLIC, b"secret-secret-secret-secret-secr")
    assert "secret" not in repr(request)
    assert pickle.loads(pickle.dumps(request)) == request


def test_the_public_deposit_key_is_published_atomically(tmp_path: Path) -> None:
    path = tmp_path / "state" / "deposit.pub"
    with pytest.raises(UnavailableError):
        load_deposit_key(path)
    publish_deposit_key(path, VAULT_PUBLIC)
    assert load_deposit_key(path) == VAULT_PUBLIC
    path.write_bytes(VAULT_PUBLIC[:-1])
    with pytest.raises(KeyFormatError):
        load_deposit_key(path)
    assert [item.name for item in path.parent.iterdir()] == ["deposit.pub"]
