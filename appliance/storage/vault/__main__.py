"""The vault process: `python -m appliance.storage.vault --settings FILE`."""

from appliance.process import child
from appliance.storage.vault.worker import main

if __name__ == "__main__":
    child.run(main)
