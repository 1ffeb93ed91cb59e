from __future__ import annotations

import importlib
import pkgutil

import pytest

import earwitness.v1
from appliance.access import identities, policy
from appliance.access.errors import (
    IdentityError,
    MethodDeniedError,
    RevokedCertificateError,
    UnknownCertificateError,
)
from appliance.access.identities import Identity, Role
from appliance.access.pki import Issued
from appliance.catalog.database import Database


def public_methods() -> set[str]:
    found = set()
    for module in pkgutil.iter_modules(earwitness.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"earwitness.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                found |= {f"/{service.full_name}/{method.name}" for method in service.methods}
    return found


def test_every_public_method_has_a_row_and_every_row_a_method():
    methods = public_methods()
    assert len(methods) >= 23
    rows = {method for method in policy.ALLOWED if method.startswith("/earwitness.")}
    assert methods - rows == set(), "a method without a row"
    assert rows - methods == set(), "a row without a method"


def test_what_is_not_in_the_table_nobody_may_call():
    for role in Role:
        with pytest.raises(MethodDeniedError):
            policy.check(Identity("x", frozenset({role})), "/earwitness.v1.BoxService/Explode")


@pytest.mark.parametrize(
    ("role", "method", "allowed"),
    [
        (Role.RECORDS_OFFICER, "RecordingsService/EraseRecording", True),
        (Role.TENANT_ADMINISTRATOR, "RecordingsService/DownloadRecording", False),
        (Role.TENANT_ADMINISTRATOR, "TenantsService/UpdateLine", True),
        (Role.SUPERVISOR, "RecordingsService/DownloadRecording", True),
        (Role.SUPERVISOR, "RecordingsService/DeleteRecording", False),
        (Role.AGENT, "CallsService/PauseCall", True),
        (Role.AGENT, "RecordingsService/ListRecordings", False),
        (Role.AUDITOR, "RecordingsService/VerifyRecording", True),
        (Role.AUDITOR, "RecordingsService/DownloadRecording", False),
        (Role.OPERATOR, "RecordingsService/ListRecordings", False),
        (Role.OPERATOR, "RecordingsService/DeleteRecording", False),
        (Role.OPERATOR, "CallsService/ListCalls", False),
        (Role.OPERATOR, "TenantsService/CreateLine", True),
        (Role.SUPPORT, "BoxService/GetBoxStatus", True),
        (Role.SUPPORT, "TenantsService/ListLines", False),
        (Role.INTEGRATION, "RecordingsService/DeleteRecording", False),
        (Role.INTEGRATION, "RecordingsService/DownloadRecording", True),
        (Role.INTEGRATION, "CallsService/PauseCall", False),
        (Role.INTEGRATION, "PromptsService/DownloadPrompt", True),
        (Role.INTEGRATION, "BoxService/GetBoxStatus", False),
    ],
)
def test_roles(role, method, allowed):
    identity = Identity("x", frozenset({role}))
    if allowed:
        policy.check(identity, f"/earwitness.v1.{method}")
    else:
        with pytest.raises(MethodDeniedError):
            policy.check(identity, f"/earwitness.v1.{method}")


def test_what_a_provider_makes_may_no_more_than_an_operator():
    system = Identity("ris", frozenset({Role.INTEGRATION}), blind=True)
    both = Identity("ada", frozenset({Role.INTEGRATION, Role.SUPPORT}), blind=True)
    for method, roles in policy.ALLOWED.items():
        if {Role.OPERATOR, Role.INTEGRATION} <= roles:
            policy.check(system, method)
        else:
            with pytest.raises(MethodDeniedError):
                policy.check(system, method)
        # Where support reads under a grant alone, another role beside it does not lift that.
        assert policy.only_as(Role.SUPPORT, both, method) == (
            Role.SUPPORT in roles and not {Role.OPERATOR, Role.INTEGRATION} <= roles
        )


def test_identities(tmp_path):
    database = Database.at(tmp_path / "catalogue.db")
    first, second = (Issued("ris", letter * 64, 5, tmp_path, tmp_path) for letter in "ab")
    with database.write() as connection:
        with pytest.raises(UnknownCertificateError):
            identities.find(connection, first.fingerprint)
        assert identities.enroll(connection, first, [Role.INTEGRATION], 1)
        assert not identities.enroll(connection, first, [Role.OPERATOR], 2), "known already"
        assert identities.find(connection, first.fingerprint) == Identity(
            "ris", frozenset({Role.INTEGRATION}), fingerprint="a" * 64
        )
        with pytest.raises(IdentityError):
            identities.enroll(connection, second, [Role.OPERATOR], 3)
        assert identities.enroll(connection, second, [Role.INTEGRATION], 3)
        assert identities.revoke(connection, "ris", 4) == 2
        assert identities.revoke(connection, "ris", 5) == 0
        for one in (first, second):
            with pytest.raises(RevokedCertificateError):
                identities.find(connection, one.fingerprint)
        assert not identities.enroll(connection, first, [Role.INTEGRATION], 6), "revoked for good"
    database.close()
