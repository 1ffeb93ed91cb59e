"""Runs in the guest: does what the host asks over a virtio-serial port. Python's standard library alone.

One line of JSON a request, one an answer, with the request's `id`. An answer has `error` where the request could not be
done. The agent itself touches only memory file systems, so that a stuck disk or a suspended pool never stops its answers;
everything else is done by jobs, which are processes.

| request | fields | answer |
| --- | --- | --- |
| hello | | boot (the kernel's boot id), release |
| start | argv, cwd, env, stdin (a staged name or null) | job |
| poll | job, out, err (bytes had so far), wait (seconds) | out, err (base64), code (null while it runs) |
| kill | job, signal | |
| forget | job (kills it where it runs) | |
| stage | name, data (base64), first (begin anew) | size |
| unstage | name | |
| off | | never: the machine powers off |
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

PORT = "/dev/virtio-ports/org.earwitness.agent"
JOBS = "/run/earwitness/jobs"
STAGE = "/run/earwitness/stage"
CHUNK = 512 * 1024  # of a job's output in one answer
WAIT_S = 5.0  # longest time that one request may keep others from being answered
IDLE_S = 0.02  # between looks at a port that nobody has open


class Refused(Exception):
    """A request that makes no sense, or cannot be done."""


class Job:
    """A process group and the files that its output goes to."""

    def __init__(self, name: str, request: dict[str, Any]) -> None:
        self.folder = os.path.join(JOBS, name)
        os.makedirs(self.folder)
        self.out = os.path.join(self.folder, "out")
        self.err = os.path.join(self.folder, "err")
        source = os.path.join(STAGE, staged(request["stdin"])) if request.get("stdin") else os.devnull
        with open(source, "rb") as stdin, open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                request["argv"], cwd=request.get("cwd") or "/", env={**os.environ, **(request.get("env") or {})},
                stdin=stdin, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip
        spare(self.process.pid, 0)

    def wait(self, seconds: float) -> int | None:
        """The exit code (negative: the signal), or None where it still runs after this time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(seconds)
        return None

    def signal(self, number: int) -> None:
        """Signals the whole group, whether its leader still runs or not."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def spare(pid: int, score: int) -> None:
    """Says how gladly the kernel shall kill a process when memory is short; children inherit it."""
    with (
        contextlib.suppress(FileNotFoundError, ProcessLookupError),
        open(f"/proc/{pid}/oom_score_adj", "w") as file,
    ):
        file.write(str(score))


def staged(name: str) -> str:
    """A name in the staging directory, and nowhere else."""
    if not name or name.startswith(".") or "/" in name:
        raise Refused(f"{name!r} is no name to stage under")
    return name


def chunk(path: str, offset: int) -> str:
    """The next bytes of an output file, as base64."""
    with open(path, "rb") as file:
        file.seek(offset)
        return base64.b64encode(file.read(CHUNK)).decode()


class Agent:
    """The jobs, and what may be asked."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.started = 0
        for folder in (JOBS, STAGE):
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)

    def answer(self, line: bytes) -> bytes:
        """The answer to one line. Never raises for what a host may send."""
        said: dict[str, Any] = {"id": None}
        try:
            request = json.loads(line)
            said["id"] = request.get("id")
            handler = getattr(self, f"do_{request.get('do')}", None)
            if handler is None:
                raise Refused(f"nothing is called {request.get('do')!r}")
            said |= handler(request) or {}
        except (Refused, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            said["error"] = f"{type(error).__name__}: {error}"
        return json.dumps(said).encode() + b"\n"

    def _job(self, request: dict[str, Any]) -> Job:
        job = self.jobs.get(request["job"])
        if job is None:
            raise Refused(f"no job {request['job']!r}: was the guest restarted since?")
        return job

    def do_hello(self, request: dict[str, Any]) -> dict[str, Any]:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return {"boot": file.read().strip(), "release": os.uname().release}

    def do_start(self, request: dict[str, Any]) -> dict[str, Any]:
        self.started += 1
        name = str(self.started)
        self.jobs[name] = Job(name, request)
        return {"job": name}

    def do_poll(self, request: dict[str, Any]) -> dict[str, Any]:
        job = self._job(request)
        code = job.wait(min(float(request.get("wait", 0)), WAIT_S))
        out, err = chunk(job.out, request["out"]), chunk(job.err, request["err"])
        # What was written before the end may need another look.
        left = os.path.getsize(job.out) + os.path.getsize(job.err) - request["out"] - request["err"]
        sent = len(base64.b64decode(out)) + len(base64.b64decode(err))
        return {"out": out, "err": err, "code": code if left <= sent else None}

    def do_kill(self, request: dict[str, Any]) -> None:
        self._job(request).signal(int(request["signal"]))

    def do_forget(self, request: dict[str, Any]) -> None:
        job = self._job(request)
        job.signal(signal.SIGKILL)
        del self.jobs[request["job"]]
        shutil.rmtree(job.folder)

    def do_stage(self, request: dict[str, Any]) -> dict[str, Any]:
        path = os.path.join(STAGE, staged(request["name"]))
        with open(path, "wb" if request["first"] else "ab") as file:
            file.write(base64.b64decode(request["data"], validate=True))
            return {"size": file.tell()}

    def do_unstage(self, request: dict[str, Any]) -> None:
        os.unlink(os.path.join(STAGE, staged(request["name"])))

    def do_off(self, request: dict[str, Any]) -> None:
        # No sync here, which hangs where a pool is suspended: who wants one runs it as a job.
        with open("/proc/sysrq-trigger", "w") as file:
            file.write("o")


def open_port() -> int:
    """The port to the host, once the kernel shows it."""
    deadline = time.monotonic() + 20
    while True:
        for name in os.listdir("/sys/class/virtio-ports") if os.path.isdir("/sys/class/virtio-ports") else []:
            with open(f"/sys/class/virtio-ports/{name}/name") as file:
                if file.read().strip() == os.path.basename(PORT):
                    return os.open(f"/dev/{name}", os.O_RDWR)
        if time.monotonic() > deadline:
            sys.exit("earwitness: the host gave no port for the agent")
        time.sleep(IDLE_S)


def main() -> None:
    spare(os.getpid(), -1000)
    port = open_port()
    fcntl.fcntl(port, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    agent = Agent()
    print("earwitness: agent ready", flush=True)
    pending = b""
    poller = select.poll()
    poller.register(port, select.POLLIN)
    while True:
        poller.poll()
        data = os.read(port, 1 << 20)
        if not data:  # nobody has the port open; half a line of one who went away is worth nothing
            pending = b""
            time.sleep(IDLE_S)
            continue
        pending += data
        *lines, pending = pending.split(b"\n")
        for line in lines:
            if line.strip():
                answer = agent.answer(line)
                while answer:
                    answer = answer[os.write(port, answer) :]


if __name__ == "__main__":
    main()
