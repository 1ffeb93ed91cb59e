"""One capture worker: `python -m appliance.media.capture --settings FILE --worker N`."""

from appliance.media.capture.worker import main
from appliance.process import child

if __name__ == "__main__":
    child.run(main)
