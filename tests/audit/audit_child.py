"""Appends without end from several threads, telling each entry once it is durable: to be killed in the middle of it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from appliance.audit.trail import Trail
from appliance.process.status import Status

trail = Trail(Path(sys.argv[1]), Status(), sign_s=0.01)
lock = threading.Lock()


def work(worker: int) -> None:
    number = 0
    while True:
        name = f"{sys.argv[2]}-{worker}-{number}"
        trail.write({"what": "asked", "request": name}, durable=True)
        with lock:
            sys.stdout.write(name + "\n")
            sys.stdout.flush()
        number += 1


for worker in range(4):
    threading.Thread(target=work, args=(worker,), daemon=True).start()
threading.Event().wait()
