"""Signing in by passphrase and second factor: slowed, bounded, and equally long whatever is wrong."""

from __future__ import annotations

import asyncio
import hmac
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from appliance.access import credentials, naming, passphrases, secondfactor, sessions
from appliance.access.credentials import Secrets
from appliance.access.lockout import Lockout
from appliance.access.refusals import IdentityKeyError, SignInBusyError, SignInRefusedError
from appliance.access.sealing import Sealing
from appliance.access.sessions import Session
from appliance.api.limits import RateLimit
from appliance.api.roll import Roll
from appliance.api.store import Store
from appliance.process.status import ALARM, Status

WAITING: Final = 16  # sign-ins in a lane; each takes a tenth of a second and 64 MiB when its turn comes
NETWORK_PER_S, NETWORK_BURST = 0.5, 20.0  # from one network that is not known to the name
ALL_PER_S, ALL_BURST = 5.0, 50.0  # from all of those together
KEY_LOST: Final = "SecondFactorsUnreadable"


@dataclass(frozen=True, repr=False)
class Factor:
    """What is shown once to who enrolled."""

    uri: str
    recovery_codes: tuple[str, ...]


class _Lane:
    """Passphrases are hashed one at a time, off the event loop, and only so many wait."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting = 0

    async def run(self, work: Callable[[], bool | str]) -> bool | str:
        if self._waiting >= WAITING:
            raise SignInBusyError("too many sign-ins at once: try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class SignIns:
    """Checks and changes what people sign in with. A `name` is an identity's key (`naming`), of somebody or nobody."""

    def __init__(
        self,
        store: Store,
        roll: Roll,
        sealing: Sealing,
        status: Status,
        clock_ns: Callable[[], int],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._roll = roll
        self._sealing = sealing
        self._status = status
        self._clock_ns = clock_ns
        self._clock_s = clock_s
        self._lockout = Lockout()
        self._network = RateLimit(NETWORK_PER_S, NETWORK_BURST)
        self._all = RateLimit(ALL_PER_S, ALL_BURST)
        # Two lanes: strangers that wait in the one keep nobody known out of the other.
        self._known = _Lane("signin-known")
        self._strangers = _Lane("signin")

    def close(self) -> None:
        self._known.close()
        self._strangers.close()

    async def sign_in(self, name: str, passphrase: str, code: str, network: str) -> tuple[str, Session, int]:
        """The token, the session, and how many recovery codes are left.

        SignInRefusedError, SignInSlowedError, SignInBusyError, RateLimitError.
        """
        place = self._sealing.network(network)
        checked = await self.check(name, passphrase, code, network)
        now_ns = self._clock_ns()

        def begin(connection: sa.Connection) -> tuple[str, Session, int]:
            present = credentials.secrets_of(connection, name)
            if not present.enabled or present.hash != checked.hash:
                raise _refused()  # disabled, reset or changed meanwhile, which ended the sessions there were
            credentials.note_source(connection, name, place, now_ns)
            token, session = sessions.begin(connection, name, now_ns)
            return token, session, credentials.recovery_left(connection, name)

        return await self._store.write(begin)

    async def check(self, name: str, passphrase: str, code: str, network: str) -> Secrets:
        """Whether passphrase and code are right, which uses the code up; errors as in `sign_in`."""
        secrets, known, place = await self._admit(name, network)
        lane = self._known if known else self._strangers
        right = await lane.run(lambda: passphrases.verify(secrets.hash, passphrase))
        # Looked at in any case: what is wrong is not to be told by the time it takes.
        step = self._step(secrets, code)
        recovery = secondfactor.recovery_hash(code) if secondfactor.is_recovery(code) else None
        if not right or not secrets.enabled or (step is None and recovery is None):
            raise _refused()
        if not await self._use(secrets, step, recovery):
            raise _refused()
        self._lockout.succeeded(name, place, known)
        return secrets

    async def enrol(self, name: str, enrolment_code: str, passphrase: str, network: str) -> Factor:
        """A first passphrase, by the code that a reset gave; errors as in `sign_in`, PassphraseError."""
        passphrases.check_form(passphrase, naming.parts(name)[1])
        said = secondfactor.recovery_hash(enrolment_code)
        secrets, known, place = await self._look(name, network)
        right = self._enrols(secrets, said)
        if not right:
            # Who has the code, which nobody guesses, is not kept out by those who guess at the name.
            self._slow(name, place, known)
        lane = self._known if right else self._strangers
        hash_ = str(await lane.run(lambda: passphrases.hashed(passphrase)))
        if not right:
            raise _refused()

        def check(present: Secrets) -> None:
            if not self._enrols(present, said):
                raise _refused()  # somebody was faster

        factor = await self._put(name, hash_, check)
        self._lockout.succeeded(name, place, True)  # took nothing of the name's budget
        return factor

    async def replace(
        self, name: str, passphrase: str, code: str, new_passphrase: str, new_factor: bool, network: str
    ) -> Factor | None:
        """Another passphrase, another second factor, or both, for who has the present ones; the sessions end."""
        if new_passphrase:
            passphrases.check_form(new_passphrase, naming.parts(name)[1], "new_passphrase")
        before = await self.check(name, passphrase, code, network)
        hash_ = before.hash
        if new_passphrase:
            hash_ = str(await self._known.run(lambda: passphrases.hashed(new_passphrase)))
        if hash_ is None:
            raise AssertionError("what was checked has a passphrase")

        def check(present: Secrets) -> None:
            if present.hash != before.hash:
                raise _refused()  # changed or reset meanwhile

        if new_factor:
            return await self._put(name, hash_, check)
        now_ns, kept = self._clock_ns(), hash_

        def work(connection: sa.Connection) -> tuple[None, list[str]]:
            check(credentials.secrets_of(connection, name))
            credentials.set_hash(connection, name, kept, now_ns)
            sessions.end_all(connection, name)
            return None, [name]

        await self._roll.change(work)
        return None

    async def _put(self, name: str, hash_: str, check: Callable[[Secrets], None]) -> Factor:
        secret, codes = secondfactor.make_secret(), secondfactor.recovery_codes()
        now_ns = self._clock_ns()

        def work(connection: sa.Connection) -> tuple[None, list[str]]:
            check(credentials.secrets_of(connection, name))
            credentials.enrol(connection, name, hash_, self._sealing.seal(secret, name), codes, now_ns)
            sessions.end_all(connection, name)
            return None, [name]

        await self._roll.change(work)
        return Factor(secondfactor.uri(secret, name, f"Earwitness {socket.gethostname()}"), tuple(codes))

    async def _admit(self, name: str, network: str) -> tuple[Secrets, bool, str]:
        secrets, known, place = await self._look(name, network)
        self._slow(name, place, known)
        return secrets, known, place

    async def _look(self, name: str, network: str) -> tuple[Secrets, bool, str]:
        """What is kept of the name, whether the network is known to it, and the network's hash."""
        place, now_ns = self._sealing.network(network), self._clock_ns()

        def look(connection: sa.Connection) -> tuple[Secrets, bool]:
            return (
                credentials.secrets_of(connection, name),
                credentials.is_known(connection, name, place, now_ns),
            )

        secrets, known = await self._store.read(look)
        return secrets, known, place

    def _slow(self, name: str, place: str, known: bool) -> None:
        """RateLimitError, SignInSlowedError where this attempt is not looked at."""
        now_s = self._clock_s()
        if not known:
            self._network.take(place, now_s)
            self._all.take("", now_s)
        self._lockout.admit(name, place, known, now_s)

    def _step(self, secrets: Secrets, code: str) -> int | None:
        factor = secrets.factor or self._nobody(secrets.name)
        try:
            secret = self._sealing.open(factor, secrets.name)
        except IdentityKeyError as error:
            self._status.raise_condition(KEY_LOST, ALARM, f"{error.message}; see docs/identities.md.")
            return None
        found = secondfactor.matching_step(secret, code, self._clock_ns() / 1e9, secrets.used_step)
        return found if secrets.factor is not None else None

    def _nobody(self, name: str) -> bytes:
        return self._sealing.seal(secondfactor.make_secret(), name)

    def _enrols(self, secrets: Secrets, said: str) -> bool:
        right = hmac.compare_digest(secrets.enrol_hash or "", said)
        return right and secrets.enabled and self._clock_ns() < secrets.enrol_until_ns

    async def _use(self, secrets: Secrets, step: int | None, recovery: str | None) -> bool:
        name, now_ns = secrets.name, self._clock_ns()
        if step is not None:
            hash_ = secrets.hash or ""
            return await self._store.write(
                lambda connection: credentials.use_step(connection, name, hash_, step)
            )

        def use(connection: sa.Connection) -> tuple[bool, list[str]]:
            same = credentials.secrets_of(connection, name).hash == secrets.hash
            used = same and credentials.use_recovery(connection, name, recovery or "", now_ns)
            return used, [name] if used else []

        return await self._roll.change(use)


def _refused() -> SignInRefusedError:
    return SignInRefusedError("name, passphrase or code is not right")
