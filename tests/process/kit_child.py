"""A small process for the supervisor's tests: `kit_child.py [--worker N] MODE… --settings FILE`."""

import os
import socket
import sys
import time

from appliance.model import ExhaustedError
from appliance.process import child as process
from appliance.process import notify


def main(mode: str, argv: list[str]) -> None:
    child = process.start(mode, argv)
    if mode == "refuses":
        raise ExhaustedError("port 5060 is taken (sip.udp_port)", key="sip.udp_port")
    if mode == "crashes":
        os._exit(3)
    if mode == "socket":
        stored = notify.stored_fds()
        if "rtp-1" in stored:
            listening = socket.socket(fileno=stored["rtp-1"][0])
            listening.settimeout(20)
            child.status.gauge("received", int(listening.recv(100)))
        else:
            listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            listening.bind(("127.0.0.1", 0))
            notify.store_fds("rtp-1", [listening.fileno()])
        child.ready(udp=f"127.0.0.1:{listening.getsockname()[1]}")
    if mode.startswith("late"):
        while not (child.layout.root / "go").exists():
            time.sleep(0.02)
    server = child.serve(lambda server: None)
    if mode != "socket":
        child.ready()
    if mode == "loops":
        while not (child.layout.run / "supervisor.json").exists():  # until the whole box is up
            time.sleep(0.01)
        os._exit(4)
    child.stopping.wait()
    server.stop(1).wait()


if __name__ == "__main__":
    process.run(lambda: main(sys.argv[1], sys.argv[2:]))
