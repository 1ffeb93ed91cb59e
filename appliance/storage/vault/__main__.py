"""The vault process: `python -m appliance.storage.vault --settings FILE`."""

import signal

# Before numpy starts threads of its own: a signal goes to any thread that does not block it, and would end the process.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})

from appliance.process import child  # noqa: E402
from appliance.storage.vault.worker import main  # noqa: E402

if __name__ == "__main__":
    child.run(main)
