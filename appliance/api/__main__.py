"""The control process: `python -m appliance.api --settings FILE`."""

from appliance.api.main import main
from appliance.process import child

if __name__ == "__main__":
    child.run(main)
