"""The vault process: `python -m appliance.storage --settings FILE`."""

from appliance.process import child
from appliance.storage.replica.wiring import offered
from appliance.storage.vault.worker import main

if __name__ == "__main__":
    child.run(lambda: main(offered))
