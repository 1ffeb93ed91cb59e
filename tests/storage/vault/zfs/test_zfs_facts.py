"""What channel programs and commands tell, as facts; names; what a dataset is."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace

import pytest

from appliance.model import new_id
from appliance.storage.names import BucketId, BucketNameError, SnapshotId
from appliance.storage.vault.errors import (
    BucketBusyError,
    BucketKeyError,
    BucketLockedError,
    QuotaExceededError,
    StoreFullError,
    StoreRefusedError,
    StoreSuspendedError,
    StoreUnavailableError,
)
from appliance.storage.vault.stored import BucketState
from appliance.storage.vault.zfs import commands, listing, lzc
from appliance.storage.vault.zfs.datasets import CHUNK, _in_chunks, state_of
from appliance.storage.vault.zfs.programs import Facts, SnapshotFacts, parse, parse_held
from appliance.storage.vault.zfs.tree import Tree
from appliance.storage.vault.zfs.trouble import Trouble, contract_error, told

BUCKET = BucketId(new_id(), new_id(), "2026-11-25")
FACTS = Facts("tank/rec/a", "bucket", "1", "", True, True, 7, False, "filesystem")


def test_what_a_program_tells_is_parsed() -> None:
    text = "\n".join(
        [
            "d\ttank/rec/a\tbucket\t1\t\tavailable\ttank/rec/a\t-1\t0\tfilesystem",
            "c\ttank/rec/a/y",
            "c\ttank/rec/a/x",
            "s\ttank/rec/a@g-2\t30\t1790000002\t5\tpn=7%09%25\thew.grace\thsomebody's%0A",
            "s\ttank/rec/a@guard\t20\t1790000001\t4",
            "t\ttank/rec/a@x\tew.grace\ta%09b",
            "d\ttank/rec/b\tbucket\tw:1\t\tnone\t\t9\t1\tvolume",
        ]
    )
    first, second = parse(text)
    assert first == Facts(
        "tank/rec/a",
        "bucket",
        "1",
        "",
        True,
        True,
        (1 << 64) - 1,
        False,
        "filesystem",
        ("tank/rec/a/x", "tank/rec/a/y"),
        (
            SnapshotFacts("guard", 20, 1_790_000_001, 4),
            SnapshotFacts(
                "g-2", 30, 1_790_000_002, 5, {"ew:n": "7\t%"}, frozenset({"ew.grace", "somebody's\n"})
            ),
        ),
        {"x": frozenset({"ew.grace", "a\tb"})},
    )
    assert (first.written, first.mark, second.written, second.mark) == (True, "", False, "w:1")
    assert (second.unfinished, second.own_root, second.type) == (True, False, "volume")
    assert first.snapshot("g-2") and first.snapshot("g-3") is None
    assert parse("") == []


def test_commands_tell_the_same() -> None:
    local = {"type": "LOCAL", "data": "-"}
    properties = {
        "type": {"value": "filesystem", "source": {"type": "NONE"}},
        "keystatus": {"value": "unavailable", "source": {"type": "NONE"}},
        "encryptionroot": {"value": "tank/rec/a", "source": {"type": "NONE"}},
        "guid": {"value": "7", "source": {"type": "NONE"}},
        "referenced": {"value": "98304", "source": {"type": "NONE"}},
        "ew:kind": {"value": "bucket", "source": local},
        "ew:open": {"value": "1", "source": {"type": "INHERITED", "data": "tank/rec"}},
        "ew:origin": {"value": "-", "source": {"type": "NONE"}},
        "receive_resume_token": {"value": "-", "source": {"type": "NONE"}},
    }
    snapshot = {
        "name": "tank/rec/a@g-1",
        "properties": {
            "createtxg": {"value": "30"},
            "creation": {"value": "1790000002"},
            "guid": {"value": "5"},
            "userrefs": {"value": "1"},
            "ew.zfs:names": {"value": "kind n"},
            "ew:kind": {"value": "grace"},
            "ew:n": {"value": "7"},
            "com.example:x": {"value": "y"},
        },
    }
    found = listing.snapshot_from_json(snapshot, ["ew.grace"])
    assert found == SnapshotFacts(
        "g-1", 30, 1_790_000_002, 5, {"ew:kind": "grace", "ew:n": "7"}, frozenset({"ew.grace"})
    )
    dataset = {"name": "tank/rec/a", "properties": properties}
    children = {"tank/rec/a": {}, "tank/rec/a/x": {}}
    assert listing.from_json(dataset, children, [found]) == Facts(
        "tank/rec/a",
        "bucket",
        "",
        "",
        False,
        True,
        7,
        False,
        "filesystem",
        ("tank/rec/a/x",),
        (found,),
    )
    brief = listing.from_json(dataset, children, [found]).with_tags_alone()
    assert (brief.snapshots, brief.tags) == ((), {"g-1": frozenset({"ew.grace"})})
    for said, written, mark in (("1", True, ""), ("w:1 98304", False, "w:1"), ("w:1 98816", False, "")):
        properties["ew:open"] = {"value": said, "source": local}
        opened = listing.from_json(dataset, children, [])
        assert (opened.written, opened.mark) == (written, mark), said
    properties["receive_resume_token"] = {"value": "1-abc", "source": {"type": "NONE"}}
    assert listing.from_json(dataset, children, []).unfinished
    assert not listing.from_json(dataset, children, [found]).unfinished


def test_what_a_dataset_is() -> None:
    assert state_of(None) is BucketState.ABSENT
    assert state_of(FACTS) is BucketState.OPEN
    assert state_of(replace(FACTS, key_loaded=False)) is BucketState.LOCKED
    assert state_of(replace(FACTS, kind="")) is BucketState.ABSENT, "it is not marked as ours"
    assert state_of(replace(FACTS, unfinished=True)) is BucketState.ABSENT


def test_names_of_datasets() -> None:
    tree = Tree("tank/rec")
    name = f"tank/rec/{BUCKET.path}"
    assert (tree.dataset(BUCKET), tree.bucket(name), tree.pool, tree.reserve) == (
        name,
        BUCKET,
        "tank",
        "tank/ew-reserve",
    )
    assert tree.snapshot(SnapshotId(BUCKET, "g-1")) == f"{name}@g-1" and tree.below(name) == BUCKET.path
    held = BucketId(BUCKET.tenant_id, "hold", new_id())
    assert tree.bucket(tree.dataset(held)) == held
    for other in ("tank/rec", "tank/rec/a/b/c", f"{name}/x", f"tank/other/{BUCKET.path}"):
        assert tree.bucket(other) is None
    with pytest.raises(BucketNameError):
        tree.tenant("../x")
    for wrong in ("tank", "", "/tank"):
        with pytest.raises(StoreRefusedError):
            Tree(wrong)


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (Trouble(errno.ENOSPC), StoreFullError),
        (Trouble(errno.EDQUOT), QuotaExceededError),
        (Trouble(errno.EAGAIN, "SuspendedPool"), StoreSuspendedError),
        (Trouble(errno.EBUSY), BucketBusyError),
        (Trouble(errno.EACCES, "EncryptionKeyInvalid"), BucketKeyError),
        (Trouble(errno.EACCES), BucketLockedError),
        (Trouble(errno.EIO), StoreUnavailableError),
        (Trouble(1033, "WrongParent"), StoreUnavailableError),
    ],
)
def test_every_number_has_an_error_of_the_contract(trouble: Trouble, error: type[Exception]) -> None:
    with pytest.raises(error) as raised, told(BUCKET):
        raise trouble
    assert type(raised.value) is error
    assert isinstance(contract_error(Trouble(errno.EDQUOT)), StoreUnavailableError), "nobody's quota is known"


@pytest.mark.parametrize(
    ("sentence", "number"),
    [
        ("cannot open 'tank/x': dataset does not exist", errno.ENOENT),
        ("cannot open 'nix': no such pool", errno.ENOENT),
        ("cannot set property for 'tank/a': size is less than current used or reserved space", errno.EDQUOT),
        ("cannot receive new filesystem stream: destination tank/a space quota exceeded.", errno.EDQUOT),
        ("cannot receive incremental stream: out of space", errno.ENOSPC),
        ("cannot destroy 'tank/a': dataset is busy", errno.EBUSY),
        ("cannot open 'tank': pool I/O is currently suspended", errno.EAGAIN),
        ("something nobody has heard of", errno.EPROTO),
    ],
)
def test_sentences_of_commands(sentence: str, number: int) -> None:
    assert commands.number_of(sentence) == number


def _error(kind_name: str, number: int | None, **fields: object) -> Exception:
    kind = type(
        kind_name,
        (Exception,),
        {"__module__": "libzfs_core.exceptions", "errno": number, "name": None, "message": ""},
    )
    error = kind()
    for field, value in fields.items():
        setattr(error, field, value)
    return error


def test_errors_of_the_library_as_numbers() -> None:
    held = _error("SnapshotIsHeld", errno.EBUSY, name=b"tank/a@g-1")
    # Its constructor is called with name and message the wrong way round.
    other = _error("ZFSGenericError", errno.EPERM, name="Failed to destroy snapshot", message=b"tank/a@g-2")
    count = _error("ZFSGenericError", 4711, name="Failed to destroy snapshot", message=b"N_MORE_ERRORS")
    many = _error("SnapshotDestructionFailure", 4711, errors=[count, held, other], suppressed_count=0)
    assert lzc.said(many) == {
        "errno": errno.EBUSY,
        "kind": "SnapshotDestructionFailure",
        "names": {"tank/a@g-1": errno.EBUSY, "tank/a@g-2": errno.EPERM},
        "said": "",
    }
    program = _error("ZCPRuntimeError", errno.ECHRNG, details=b"no such dataset")
    assert lzc.said(program) == {
        "errno": errno.ECHRNG,
        "kind": "ZCPRuntimeError",
        "names": {},
        "said": "no such dataset",
    }
    assert lzc.said(KeyError(b"N_MORE_ERRORS")) is None, "no error of the library's own"
    trouble = Trouble(errno.EBUSY, names={"a": errno.EEXIST, "b": errno.EEXIST})
    assert trouble.all_are(errno.EEXIST) and not trouble.all_are(errno.EBUSY)


def test_what_is_held_is_parsed() -> None:
    assert parse_held("") == {}
    assert parse_held("tank/a@g-1\ntank/a@g-2\tew.grace\tx%09y") == {
        "tank/a@g-1": frozenset(),
        "tank/a@g-2": frozenset({"ew.grace", "x\ty"}),
    }


def test_many_are_read_in_chunks_halved_where_they_are_too_much_and_one_by_one_at_last() -> None:
    names = [str(number) for number in range(2 * CHUNK + 7)]
    asked: list[int] = []

    def read(some: Sequence[str]) -> list[str]:
        asked.append(len(some))
        if "5" in some:
            raise Trouble(errno.ENOMEM, "Program")
        return list(some)

    assert _in_chunks(names, read, lambda name: [f"slow {name}"]) == [
        "slow 5" if name == "5" else name for name in names
    ]
    assert max(asked) == CHUNK and asked[-2:] == [CHUNK, 7]
    assert _in_chunks([], read, lambda name: [name]) == []

    def broken(some: Sequence[str]) -> list[str]:
        raise Trouble(errno.EIO, "Program")

    with pytest.raises(Trouble):
        _in_chunks(names, broken, lambda name: [name])
