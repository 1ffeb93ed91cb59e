"""A vault at work until the power goes: `load.py EXPECTED SECONDS`.

First it opens what is there, settles, and checks it against EXPECTED (JSON: recording id to [state, digest], and what was
being done when the power went). Then it files, deletes, brings back, erases, holds and expires, and says each thing twice:
`doing` before, `done` after. What was said to be done is durable.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from scene import digest, open_house, pass_days, say

from appliance.model import EarwitnessError
from appliance.storage.retention.period import Period
from appliance.storage.retention.terms import Policy, PolicyChange, PolicyField, PolicyScope
from appliance.storage.sealed import verify
from appliance.storage.vault.parking import undelete

house = open_house()
vault = house.vault
assert vault is not None


def check(expected: dict[str, list[str]], doing: list[str]) -> None:
    """What was said to be done is so; what was being done is done or not, and nothing in between."""
    found = house.settle()
    house.poll()
    second = house.settle()
    for result in (found, second):
        assert (result.missing, result.unknown, result.keyless) == (0, 0, 0), result
    assert (second.moved, second.filed, second.erased) == (0, 0, 0), f"not clean the second time: {second}"
    verb, *names = doing or ["nothing"]
    for name, (state, sha) in expected.items():
        held = vault.holding(name)
        may = {state}
        if verb == "expiring":
            if name not in names:  # those are under legal hold
                may |= {"filed", "deleted", "erased"}
        elif name in names:
            may |= {verb}
        assert held.state.value in may, (name, held.state.value, may)
        if held.state.value == "filed":
            assert sha in ("", digest(house, name)), name
            with vault.read(name) as file:
                report = verify(file, vault.keystore.device_public_key, vault.lease(name))
            assert report.intact and report.opened and report.trusted, (name, report.findings)
        elif held.state.value == "deleted":
            assert held.parked, name
        else:
            assert held.certificate is not None and name not in vault.keystore, name
    known = {held.recording_id: held.state.value for held in vault.holdings.all()}
    say("checked", json.dumps({"states": known, "epoch": vault.keystore.epoch}))


def policies() -> None:
    wanted = Policy(Period.parse("3d"), 1)
    book = house.parts.policies
    if str(book.effective(house.tenant, house.line).retention) == "3 days":
        return
    book.set(PolicyChange(PolicyScope(), fields=(PolicyField.COOLING,), cooling_days=0), "scene")
    pass_days(house, 8)
    book.set(PolicyChange(PolicyScope(), wanted, (PolicyField.RETENTION, PolicyField.GRACE)), "scene")


def of_state(state: str) -> list[str]:
    return sorted(item.recording_id for item in vault.holdings.where("state = ?", (state,)))


def held(name: str) -> bool:
    return bool(vault.rules.cases_of(vault.holding(name)))


def one_step(turn: int, chance: random.Random) -> None:
    filed, deleted = of_state("filed"), of_state("deleted")
    free = [name for name in filed if not held(name)]
    kind = turn % 12
    if kind in (2, 7) and free:
        name = chance.choice(free)
        say("doing deleted", name)
        vault.delete(name, "scene")
        say("done deleted", name)
    elif kind == 4 and deleted:
        name = chance.choice(deleted)
        say("doing filed", name)
        undelete(vault, name)
        say("done filed", name, digest(house, name))
    elif kind == 5 and free:
        names = chance.sample(free, min(2, len(free)))
        say("doing erased", *names)
        house.eraser.erase(names, "scene")
        say("done erased", *names)
    elif kind == 8 and free:
        hold = house.parts.legal.create(house.tenant, "scene", "scene", "scene")
        house.parts.legal.add(hold.case_id, "scene", [chance.choice(free)])
    elif kind == 9:
        opened = [hold for hold in house.parts.legal.book.all() if hold.open]
        if len(opened) > 2:
            house.parts.legal.release(opened[0].case_id, "scene", "scene")
    elif kind == 11:
        pass_days(house, 1)
        say("doing expiring", *(name for name in (*filed, *deleted) if held(name)))
        house.parts.expiry.run("scene")
        gone = of_state("erased")
        say("done expired", *gone)
    else:
        name = house.record(
            created_ns=house.clocks.wall_ns, payload=chance.randbytes(chance.choice((100, 20_000, 300_000)))
        )
        say("doing filed", name)
        house.clock.now += 10
        house.poll()
        say("done filed", name, digest(house, name))
    house.parts.parker.poll()


def main() -> None:
    expected = json.loads(Path(sys.argv[1]).read_text())
    began = time.monotonic()
    check(expected["states"], expected["doing"])
    policies()
    say("working", f"{time.monotonic() - began:.1f}")
    chance = random.Random(expected["seed"])
    until = time.monotonic() + float(sys.argv[2])
    turn = expected["seed"]
    while time.monotonic() < until:
        try:
            one_step(turn, chance)
        except EarwitnessError as error:
            say("error", type(error).__name__, error.message)
            raise
        turn += 1
    say("ended")
    house.close()


if __name__ == "__main__":
    main()
