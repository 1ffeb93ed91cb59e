"""The general copy beside a real catalogue: kept, read back when the catalogue is lost, refused where it is not right."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import catalogue_kit
import copy_kit
import pytest
import sqlalchemy as sa

from appliance.access.copyfiles import INDEX, CopyFiles, Index
from appliance.access.identities import Role
from appliance.access.sealing import Sealing
from appliance.api import cataloguecopy
from appliance.api.cataloguecopy import ANCHOR, FOLDER, REFUSED, UNWRITABLE, CatalogueCopy
from appliance.api.catalogueopen import REBUILT
from appliance.api.store import Store
from appliance.api.taking import CURSOR
from appliance.catalog import copying, staff, state, whence
from appliance.catalog.alarmtables import alarm_channels
from appliance.catalog.database import Database, erasing
from appliance.catalog.noticetables import acknowledgements
from appliance.catalog.noticetables import staff as staff_rows
from appliance.config.layout import Layout
from appliance.process.status import Status
from earwitness.v1 import notices_pb2, review_pb2, staff_pb2

KIT = Path(copy_kit.__file__).parent


class Place:
    """One box's directory, with a catalogue that is opened, lost and opened again."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.layout.control.mkdir(parents=True)
        self.layout.pki.mkdir(parents=True)
        self.status = Status()

    @classmethod
    def at(cls, root: Path) -> Place:
        """One that is there."""
        made = cls.__new__(cls)
        made.layout, made.status = Layout(root), Status()
        return made

    @property
    def path(self) -> Path:
        return self.layout.control / "catalogue.db"

    @property
    def folder(self) -> Path:
        return self.layout.control / FOLDER

    @property
    def files(self) -> CopyFiles:
        sealing = Sealing.at(self.layout.control / "identities.key")
        return CopyFiles(self.folder, self.layout.pki / ANCHOR, sealing)

    @property
    def conditions(self) -> dict[str, str]:
        return {one.type: one.message for one in self.status.conditions()}

    @contextlib.asynccontextmanager
    async def opened(self, *, tenant=True):
        """The copy, settled; as control does it, tenants are there by then."""
        self.status = Status()
        new = not self.path.exists()
        if new:
            catalogue_kit.place(self.path)
        database = Database.at(self.path)
        if new and tenant:
            with database.write() as connection:
                copy_kit.add_tenant(connection)
        store = Store(database, self.status)
        try:
            yield await CatalogueCopy.open(self.layout, store, self.status, time.time_ns)
        finally:
            store.close()

    def database_of(self, copy: CatalogueCopy) -> Database:
        return copy._store.database

    def lose(self) -> None:
        for one in self.layout.control.glob("catalogue.db*"):
            one.unlink()

    def plain(self) -> bytes:
        """All that can be read in the copy with the box's key, and every byte of its files."""
        files = self.files
        index = files.index()
        found = b"".join(one.read_bytes() for one in self.folder.iterdir())
        for name, part in index.parts.items():
            rows = list(files.read(name, part))
            found += json.dumps(rows, ensure_ascii=False).encode()
        return found


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


async def filled(place) -> dict:
    """A catalogue with every kind of row, and its copy; gives the rows."""
    place.path.unlink(missing_ok=True)
    async with place.opened(tenant=False) as copy:
        copy_kit.fill(place.database_of(copy))
        assert copy.urgent and await copy.keep() and not copy.wanted
        return copy_kit.content(place.database_of(copy))


def test_a_lost_catalogue_has_all_of_it_again(place):
    async def work():
        before = await filled(place)
        place.lose()
        async with place.opened() as copy:
            after = copy_kit.content(place.database_of(copy))
            assert copy.urgent, "it is written anew, whatever it was"
            assert await copy.keep()
        return before, after

    before, after = asyncio.run(work())
    assert all(before.values()) and after == before
    said = place.conditions[REBUILT]
    assert "3 staff, 3 notices, 3 acknowledgements" in said and "left out" not in said
    assert set(place.conditions) == {REBUILT}


def test_a_catalogue_that_is_there_is_left_alone(place):
    async def work():
        await filled(place)
        async with place.opened() as copy:
            with place.database_of(copy).write() as connection:
                connection.execute(sa.update(staff_rows).values(email="changed"))
        async with place.opened() as copy:
            return copy_kit.content(place.database_of(copy))["staff"]

    assert all("changed" in row for row in asyncio.run(work()))
    assert not place.conditions


def test_only_tables_that_changed_are_written_anew(place):
    async def work():
        await filled(place)
        async with place.opened() as copy:
            await copy.keep()
            first = {one.name for one in place.folder.iterdir()}
            with place.database_of(copy).write() as connection:
                connection.execute(sa.update(staff_rows).values(email="changed"))
                state.put(connection, "anything", "else")
            assert copy.wanted and not copy.urgent
            assert await copy.keep()
            second = {one.name for one in place.folder.iterdir()}
            with place.database_of(copy).write() as connection:
                state.put(connection, "anything", "other")
            assert not copy.wanted
        return first, second

    first, second = asyncio.run(work())
    assert {name.rpartition("-")[0] for name in second - first} <= {"staff", "values"}
    assert len(first) == len(second) == len(whence.copied()) + 1
    assert INDEX in first & second


def test_what_is_secret_lies_in_it_as_it_does_in_the_catalogue(place):
    async def work():
        await filled(place)
        async with place.opened() as copy:
            sealing = Sealing.at(place.layout.control / "identities.key")
            with place.database_of(copy).write() as connection:
                secret = sealing.seal(b"password of the mail server", "\0channel")
                connection.execute(sa.update(alarm_channels).values(secret=secret))
            await copy.keep()

    asyncio.run(work())
    assert b"password of the mail server" not in place.plain()


def test_nothing_that_is_erased_outlives_in_it(place):
    async def work():
        await filled(place)
        async with place.opened() as copy:
            database, store = place.database_of(copy), copy._store
            with database.write() as connection:
                connection.execute(sa.update(staff_rows).values(display_name=copy_kit.NAME))
                connection.execute(sa.update(acknowledgements).values(evidence=f"signed {copy_kit.NAME}"))
            await copy.keep()
            assert copy_kit.NAME.encode() in place.plain()
            old = {one.name: one.read_bytes() for one in place.folder.iterdir()}
            with database.write() as connection:
                staff.forget(connection, connection.execute(sa.select(staff_rows.c.id)).scalars().all())
            assert copy.urgent and store.scrub_wanted
            assert not await store.scrub_soon(), "a scrub waits for the copy"
            assert copy_kit.NAME.encode() in place.plain()
            assert await store.scrub() and not store.scrub_wanted
        return old

    old = asyncio.run(work())
    assert copy_kit.NAME.encode() not in place.plain()
    # What was taken from the disk before cannot be read with what the index says now.
    index = place.files.index()
    assert index is not None and not {part.file for part in index.parts.values()} & {
        name for name in old if name.startswith(("staff-", "acknowledgements-"))
    }
    raw = b"".join(one.read_bytes() for one in place.layout.control.rglob("*") if one.is_file())
    assert copy_kit.NAME.encode() not in raw


def test_a_copy_that_cannot_be_written_is_told_and_written_later(place, monkeypatch):
    async def work():
        await filled(place)
        async with place.opened() as copy:
            await copy.keep()
            with place.database_of(copy).write() as connection:
                connection.execute(sa.update(staff_rows).values(email="changed"))
                erasing(connection)
            before = sorted(one.name for one in place.folder.iterdir())

            def full(_):
                raise OSError(28, "no space left on device")

            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", full)
                assert not await copy.keep()
            assert UNWRITABLE in place.conditions and copy.urgent
            assert sorted(one.name for one in place.folder.iterdir()) == before
            assert place.files.index().serial < copy._files.anchored() + 1
            later(copy, cataloguecopy.DELAY_S)
            assert await copy.keep()
            assert not place.conditions and b"changed" in place.plain()

    asyncio.run(work())


def later(copy, seconds) -> None:
    """As if the last try had been so long ago."""
    copy._ended_s -= seconds


def test_a_full_disk_is_tried_less_and_less_often(place, monkeypatch):
    tries = 0

    def full(_):
        nonlocal tries
        tries += 1
        raise OSError(28, "no space left on device")

    async def work():
        await filled(place)
        async with place.opened() as copy:
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", full)
                for n, wait_s in enumerate((30, 60, 120, 240, 480, 480), 1):
                    assert not await copy.keep() and tries == n and copy.urgent
                    later(copy, wait_s - 10)
                    assert not await copy.keep() and not copy._due() and tries == n, "urgent or not"
                    assert not await copy._store.scrub() and tries == n
                    later(copy, 10)
                    assert copy._due()
                assert not await copy.keep()
                patch.undo()
            await copy.close()
            assert not copy.wanted and not place.conditions, "at the end it is tried once more"

    asyncio.run(work())


def whole(place) -> bool:
    """Whether every file that the index names can be read."""
    files = place.files
    return all(len(list(files.read(name, part))) == part.rows for name, part in files.index().parts.items())


@pytest.mark.parametrize("how", ["disk", "index", "ending"])
def test_a_first_copy_that_breaks_off_leaves_the_one_before(place, monkeypatch, how):
    async def work():
        await filled(place)
        before = [one.name for one in place.folder.iterdir()]  # a file a table, and the index
        async with place.opened() as copy:
            real, count = os.fsync, 0

            def step(descriptor):
                nonlocal count
                count += 1
                if how == "ending" and count == 3:
                    copy._ending.set()
                elif count >= (3 if how == "disk" else len(before) + 1):  # the folder comes before the index
                    raise OSError(28, "no space left on device")
                return real(descriptor)

            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", step)
                assert not await copy.keep()
        left = {one.name for one in place.folder.glob("*.sealed")}
        assert left == set(before) and whole(place)
        place.lose()
        async with place.opened() as copy:
            return copy_kit.content(place.database_of(copy))

    assert all(asyncio.run(work()).values())


def test_a_copy_whose_serial_is_not_noted_is_the_copy_all_the_same(place, monkeypatch):
    async def work():
        await filled(place)
        async with place.opened() as copy:
            await copy.keep()
            before = place.files.index()
            with place.database_of(copy).write() as connection:
                connection.execute(sa.update(staff_rows).values(email="changed"))

            def full(*_):
                raise OSError(28, "no space left on device")

            with monkeypatch.context() as patch:
                patch.setattr(os, "fdatasync", full)  # of the serial
                assert not await copy.keep()
            index = place.files.index()
            assert index.serial > before.serial and whole(place)
            later(copy, cataloguecopy.DELAY_S)
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", full)
                assert not await copy.keep()
            assert place.files.index() == index and whole(place)
            later(copy, 2 * cataloguecopy.DELAY_S)
            assert await copy.keep() and whole(place) and b"changed" in place.plain()

    asyncio.run(work())


def _spoil(place, how):
    if how == "index":
        data = bytearray((place.folder / INDEX).read_bytes())
        data[40] ^= 1
        (place.folder / INDEX).write_bytes(data)
    elif how == "foreign":
        (place.layout.control / "identities.key").write_bytes(os.urandom(32))
    elif how == "gone":
        shutil.rmtree(place.folder)
    elif how == "newer release":
        files = place.files
        index = files.index()
        files.publish(Index(index.serial, "9999_of_the_future", index.made_ns, index.parts))


@pytest.mark.parametrize("how", ["index", "foreign", "gone", "newer release"])
@pytest.mark.parametrize("lost", [False, True])
def test_a_copy_that_is_not_right_is_refused_and_told(place, how, lost):
    async def work():
        before = await filled(place)
        _spoil(place, how)
        if lost:
            place.lose()
        async with place.opened() as copy:
            found = copy_kit.content(place.database_of(copy))
            told = place.conditions
            assert await copy.keep()
        return before, found, told

    before, found, told = asyncio.run(work())
    if how == "gone" and not lost:
        assert found == before  # it is told all the same: somebody took it away
    assert REFUSED in told and REBUILT not in told
    assert ("lost, too" in told[REFUSED]) == lost
    assert found == before if not lost else not any(found.values())
    aside = list(place.layout.control.glob(f"{FOLDER}.refused-*"))
    assert bool(aside) == (how != "gone" and (lost or how == "newer release"))
    assert place.files.index() is not None, "there is one again"


def test_a_damaged_file_costs_its_table_and_what_refers_to_it(place):
    async def work():
        before = await filled(place)
        part = place.files.index().parts["staff"]
        path = place.folder / part.file
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
        place.lose()
        async with place.opened() as copy:
            return before, copy_kit.content(place.database_of(copy))

    before, found = asyncio.run(work())
    lost = {"staff", "acknowledgements", "notice_links", "notice_mails"}
    assert {name for name in found if found[name] != before[name]} == lost
    assert not any(found[name] for name in lost)
    assert "Damaged and lost: staff." in place.conditions[REBUILT]
    assert "9 rows were left out" in place.conditions[REBUILT]


def test_an_older_copy_put_back_is_told(place):
    async def work():
        await filled(place)
        kept = place.layout.root / "kept"
        shutil.copytree(place.folder, kept)
        async with place.opened() as copy:
            await copy.keep()
        shutil.rmtree(place.folder)
        kept.rename(place.folder)
        place.lose()
        async with place.opened() as copy:
            return copy_kit.content(place.database_of(copy))

    assert not any(asyncio.run(work()).values())
    assert "is older than the last one that was written" in place.conditions[REFUSED]
    assert list(place.layout.control.glob(f"{FOLDER}.refused-*"))


def test_an_older_catalogue_put_back_is_told_and_the_copy_kept(place):
    async def work():
        await filled(place)
        kept = place.path.read_bytes()
        async with place.opened() as copy:
            await copy.keep()
        place.lose()
        place.path.write_bytes(kept)
        async with place.opened():
            pass

    asyncio.run(work())
    assert "an old catalogue" in place.conditions[REFUSED]
    assert list(place.layout.control.glob(f"{FOLDER}.refused-*/{INDEX}"))


@pytest.mark.parametrize("how", ["index", "newer release"])
def test_a_refused_copy_that_cannot_be_put_aside_is_not_written_over(place, monkeypatch, how):
    async def work():
        await filled(place)
        _spoil(place, how)
        place.lose()
        before = {one.name: one.read_bytes() for one in place.folder.iterdir()}

        def denied(*_):
            raise OSError(5, "input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", denied)
            for _ in range(2):  # the second time the catalogue is one that is there
                async with place.opened() as copy:
                    await copy._store.write(lambda c: state.put(c, CURSOR, "5"))
                    assert not await copy.keep()
                    assert {REFUSED, UNWRITABLE} <= set(place.conditions)
                    assert "No other is written until it can be put aside" in place.conditions[REFUSED]
        assert {one.name: one.read_bytes() for one in place.folder.iterdir()} == before
        async with place.opened() as copy:
            assert await copy.keep() and UNWRITABLE not in place.conditions
        return before

    before = asyncio.run(work())
    [aside] = place.layout.control.glob(f"{FOLDER}.refused-*")
    assert {one.name: one.read_bytes() for one in aside.iterdir()} == before
    assert place.files.index() is not None and aside.name in place.conditions[REFUSED]


def test_a_catalogue_that_followed_the_vault_is_not_new(place):
    """One of an older release, which had no copy: nothing is put over what it says."""

    async def work():
        await filled(place)
        async with place.opened() as copy:
            with place.database_of(copy).write() as connection:
                connection.execute(sa.text("DELETE FROM \"values\" WHERE name = 'copy-serial'"))
                state.put(connection, CURSOR, "5")
                connection.execute(sa.update(staff_rows).values(email="changed"))
        async with place.opened() as copy:
            return copy_kit.content(place.database_of(copy))["staff"]

    assert all("changed" in row for row in asyncio.run(work()))
    assert REFUSED in place.conditions


def test_it_is_kept_by_itself_soon_and_at_once_after_an_erasure(place, monkeypatch):
    async def serial(copy, above):
        for _ in range(500):
            index = place.files.index() if place.folder.exists() else None
            if index is not None and index.serial > above and not copy.wanted:
                return index.serial
            await asyncio.sleep(0.02)
        raise AssertionError("no copy")

    async def work():
        async with place.opened(tenant=False) as copy:
            copy_kit.fill(place.database_of(copy))
            runs = asyncio.create_task(copy.run())
            first = await serial(copy, 0)
            await copy._store.write(lambda c: c.execute(sa.update(staff_rows).values(email="x")).rowcount)
            await asyncio.sleep(0.6)
            assert copy.wanted and place.files.index().serial == first, "not with each row"

            def erase(connection):
                connection.execute(sa.update(staff_rows).values(email=""))
                erasing(connection)

            await copy._store.write(erase)
            second = await serial(copy, first)
            monkeypatch.setattr(cataloguecopy, "DELAY_S", 0.0)
            await copy._store.write(lambda c: c.execute(sa.update(staff_rows).values(email="y")).rowcount)
            await serial(copy, second)
            copy._store.events.close()
            await asyncio.wait_for(runs, 5)

    asyncio.run(work())


def test_what_is_behind_is_written_at_the_end(place):
    async def work():
        await filled(place)
        async with place.opened() as copy:
            await copy.keep()
            with place.database_of(copy).write() as connection:
                connection.execute(sa.update(staff_rows).values(email="last word"))
            await copy.close()

    asyncio.run(work())
    assert b"last word" in place.plain()


_KILLED = """
import asyncio, os, shutil, signal, sys
sys.path[:0] = {path!r}
import test_api_cataloguecopy as module

armed, count = False, 0

def step(name, at):
    real = getattr(os, name)
    def stepped(*args, **more):
        global count
        if armed:
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)
    setattr(os, name, stepped)

async def work(root):
    global armed
    place = module.Place.at(root)
    async with place.opened() as copy:
        await copy.keep()
        with place.database_of(copy).write() as connection:
            connection.execute(module.sa.update(module.staff_rows).values(email="second"))
            module.erasing(connection)
        armed = True
        await copy.keep()
        armed = False

root = module.Path(sys.argv[1])
for at in range(1, 100):
    shutil.copytree(root, root.with_name(f"killed-{{at}}"))
    child = os.fork()  # no thread is there yet
    if child == 0:
        for name in ("open", "fsync", "fdatasync", "replace", "unlink"):
            step(name, at)
        try:
            asyncio.run(work(root.with_name(f"killed-{{at}}")))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, flush=True)
    if code != -signal.SIGKILL:
        break
"""


def test_killed_at_any_step_it_is_the_old_one_or_the_new_one(tmp_path):
    place = Place(tmp_path / "box")
    asyncio.run(filled(place))
    script = _KILLED.format(path=[str(Path(__file__).parent), str(KIT)])
    command = [sys.executable, "-c", script, str(place.layout.root)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=110)
    codes = done.stdout.split()
    assert codes[-1] == "0" and set(codes[:-1]) == {str(-signal.SIGKILL)}, done.stderr
    seen = []
    for at in range(1, len(codes) + 1):
        files = Place.at(tmp_path / f"killed-{at}").files
        index = files.index()
        assert index is not None and 0 < files.anchored() <= index.serial, "not taken for an older one"
        rows = {name: list(files.read(name, part)) for name, part in index.parts.items()}
        emails = {row[3] for row in rows["staff"]}
        assert all(rows.values()) and (emails == {"second"} or "second" not in emails)
        seen.append("new" if emails == {"second"} else "old")
        files.tidy(index)
        assert {part.file for part in index.parts.values()} | {INDEX} == {
            path.name for path in files.folder.iterdir()
        }
    assert seen == sorted(seen, reverse=True), "the one, then the other"
    assert seen.count("old") > 3 and seen.count("new") > 1
    restored = Place.at(tmp_path / f"killed-{seen.index('new') + 1}")
    restored.lose()

    async def again():
        async with restored.opened() as copy:
            return copy_kit.content(restored.database_of(copy))["staff"]

    assert all("second" in row for row in asyncio.run(again()))
    assert set(restored.conditions) == {REBUILT}


def test_a_copy_made_by_this_release_says_its_tables(place):
    asyncio.run(filled(place))
    index = place.files.index()
    assert index is not None and index.serial == copying_serial(place)
    assert {name: part.columns for name, part in index.parts.items()} == {
        one.name: tuple(copying.columns(one)) for one in whence.copied()
    }


def copying_serial(place) -> int:
    database = Database.at(place.path)
    try:
        with database.read() as connection:
            return state.get_int(connection, copying.SERIAL)
    finally:
        database.close()


def test_a_box_that_lost_its_catalogue_goes_on(box, sealing):
    """What was erased meanwhile, or is gone, has no review any more, and nothing is drawn twice."""
    tenant_id, line_id = box.default_line()
    home = f"tenants/{tenant_id}"
    client = box.client()
    member = notices_staff(client, home, "Ada Lovelace")
    text = notices_pb2.NoticeVersion(text="Calls are recorded.")
    notice = notices_pb2.Notice(display_name="Recording", required=True)
    made = client.notices.CreateNotice(
        notices_pb2.CreateNoticeRequest(parent=home, notice=notice, first_version=text)
    ).notice
    desk = box.enroll("ann", Role.SUPERVISOR, tenant_id=tenant_id).review
    question = review_pb2.Question(
        question="greeted", text="Greeted?", kind=review_pb2.QUESTION_KIND_YES_NO, weight=1
    )
    card = desk.CreateScorecard(
        review_pb2.CreateScorecardRequest(
            parent=home, scorecard=review_pb2.Scorecard(display_name="Desk", questions=[question])
        )
    ).scorecard
    rule = review_pb2.ReviewRule(display_name="All", scorecard=card.name, draw=review_pb2.REVIEW_DRAW_ALL)
    desk.CreateReviewRule(review_pb2.CreateReviewRuleRequest(parent=home, rule=rule))
    kept, erased, unknown = (
        box.vault.file(sealing(tenant_id, line_id, start_ns=time.time_ns() - n * 3600 * 10**9))
        for n in (1, 2, 3)
    )
    asked = review_pb2.ListReviewsRequest(parent=home)
    box.wait(lambda: len(desk.ListReviews(asked).reviews) == 3)
    before = next(one for one in desk.ListReviews(asked).reviews if one.recording.endswith(kept))
    box.fix_port()
    box.stop()
    box.vault._erase(erased, "somebody asked")
    del box.vault.holdings[unknown]
    for path in box.layout.control.glob("catalogue.db*"):
        path.unlink()
    box.start()
    box.filed(kept)
    client = box.client()
    staff_members = client.notices.ListStaffMembers(staff_pb2.ListStaffMembersRequest(parent=home))
    assert list(staff_members.staff_members) == [member]
    assert client.notices.GetNotice(notices_pb2.GetNoticeRequest(name=made.name)).notice == made
    desk = box.enroll("bob", Role.SUPERVISOR, tenant_id=tenant_id).review
    box.wait(lambda: len(desk.ListReviews(asked).reviews) == 1)
    assert list(desk.ListReviews(asked).reviews) == [before]
    later = box.vault.file(sealing(tenant_id, line_id, start_ns=time.time_ns()))
    box.wait(lambda: len(desk.ListReviews(asked).reviews) == 2)
    assert {one.recording[-26:] for one in desk.ListReviews(asked).reviews} == {kept, later}
    told = {one.type: one.message for one in box.status.conditions()}
    assert "1 staff, 1 notices" in told[REBUILT] and "3 reviews" in told[REBUILT]
    assert REFUSED not in told
    box.wait(lambda: box.run(box.control.parts.store.scrub()) and box.control._copy._index is not None, 60)
    with box.control._copy._pen:  # none is written meanwhile
        plain = Place.at(box.layout.root).plain().decode("utf-8", "replace")
    assert "Ada Lovelace" in plain and erased not in plain and unknown not in plain


def notices_staff(client, home, display_name):
    asked = staff_pb2.CreateStaffMemberRequest(
        parent=home, staff_member=staff_pb2.StaffMember(display_name=display_name)
    )
    return client.notices.CreateStaffMember(asked).staff_member
