"""A TPM 2.0 by way of tpm2-tools: NV indices defined, written, read and undefined, each call with a deadline.

What is secret goes through pipes alone: never in arguments, the environment or a file. The resource manager of the kernel
(/dev/tpmrm0) cleans up after a tool that is killed.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence

from appliance.storage.keystore.errors import TpmError

DEVICE = "device:/dev/tpmrm0"
DEADLINE_S = 15.0

_CODE = re.compile(r"ERROR: \w+\(0x([0-9A-Fa-f]+)\)")
_HANDLE = re.compile(r"^- 0x([0-9A-Fa-f]+)$", re.MULTILINE)
_AGAIN = {0x920, 0x922}  # TPM_RC_NV_RATE, TPM_RC_RETRY: ask again in a moment
UNINITIALIZED = 0x14A  # TPM_RC_NV_UNINITIALIZED
AUTH_UNAVAILABLE = 0x12F  # the index is read in another way than was tried
POLICY_FAIL = 0x99D  # TPM_RC_POLICY_FAIL in the first session
UNKNOWN_HANDLE = 0x18B  # TPM_RC_HANDLE of the first handle: there is no such index


class Tpm:
    """One TPM. `tcti`: how it is reached, as tpm2-tools have it (`device:/dev/tpmrm0`, `swtpm:path=/run/swtpm.sock`)."""

    def __init__(self, tcti: str = DEVICE, *, deadline_s: float = DEADLINE_S, tool: str = "tpm2") -> None:
        self._tcti = tcti
        self._deadline_s = deadline_s
        self._tool = tool

    def indices(self) -> set[int]:
        """Every NV index that is defined."""
        out = self._run(["getcap", "handles-nv-index"])
        return {int(found, 16) for found in _HANDLE.findall(out.decode("ascii", "replace"))}

    def define(self, index: int, size: int, pcrs: Sequence[int] = ()) -> None:
        """Defines an index of `size` bytes in the owner's hierarchy.

        With `pcrs` (of the SHA-256 bank), one that can be read only while these registers are as they are now.
        """
        arguments = ["nvdefine", f"{index:#x}", "-C", "o", "-s", str(size), "-a"]
        if not pcrs:
            self._run([*arguments, "authread|authwrite|no_da"])
            return
        policy = os.memfd_create("policy")
        try:
            path = f"/dev/fd/{policy}"
            self._run(["createpolicy", "--policy-pcr", "-l", _selection(pcrs), "-L", path], keep=[policy])
            self._run([*arguments, "policyread|authwrite|no_da", "-L", path], keep=[policy])
        finally:
            os.close(policy)

    def write(self, index: int, data: bytes) -> None:
        """Writes the whole of an index, in one command of the TPM: it is done or not."""
        self._run(["nvwrite", f"{index:#x}", "-i-"], data)

    def read(self, index: int, size: int, pcrs: Sequence[int] = ()) -> bytes:
        """Its bytes; TpmError with the TPM's code where it is not defined, not written, or may not be read now."""
        session = ["-P", f"pcr:{_selection(pcrs)}"] if pcrs else []
        return self._run(["nvread", f"{index:#x}", "-s", str(size), *session])

    def undefine(self, index: int) -> None:
        """Nobody can read what was in it any more."""
        self._run(["nvundefine", f"{index:#x}", "-C", "o"])

    def _run(self, arguments: Sequence[str], data: bytes = b"", keep: Sequence[int] = ()) -> bytes:
        until = time.monotonic() + self._deadline_s
        while True:
            try:
                return self._once(arguments, data, keep, until - time.monotonic())
            except TpmError as error:
                if error.data.get("code") not in _AGAIN or time.monotonic() + 0.2 > until:
                    raise
                time.sleep(0.2)

    def _once(self, arguments: Sequence[str], data: bytes, keep: Sequence[int], seconds: float) -> bytes:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "TPM2TOOLS_TCTI": self._tcti,
            "LC_ALL": "C",
        }
        try:
            done = subprocess.run(
                [self._tool, *arguments],
                input=data,
                capture_output=True,
                timeout=seconds,
                env=environment,
                pass_fds=keep,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TpmError(
                f"the TPM does not answer within {self._deadline_s:g} s", command=arguments[0], code=0
            ) from error
        except OSError as error:
            raise TpmError(
                f"tpm2-tools cannot be started ({error.strerror}): is the package installed?",
                command=arguments[0],
                code=0,
            ) from error
        if done.returncode:
            raise _refusal(arguments[0], done.stderr.decode("utf-8", "replace"))
        return done.stdout


def _selection(pcrs: Sequence[int]) -> str:
    return "sha256:" + ",".join(str(number) for number in pcrs)


def _refusal(command: str, told: str) -> TpmError:
    """What a tool says when it fails: its errors hold handles and codes, nothing of what was read or written."""
    lines = [line.removeprefix("ERROR: ") for line in told.splitlines() if line.startswith("ERROR: ")]
    coded = [line for line in lines if _CODE.match(f"ERROR: {line}")]
    said = (coded or lines or ["it gives no reason"])[0]
    code = _CODE.match(f"ERROR: {coded[0]}") if coded else None
    return TpmError(
        f"the TPM refuses {command}: {said}", command=command, code=int(code[1], 16) if code else 0
    )
