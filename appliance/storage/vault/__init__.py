"""The vault: keeps recordings in buckets, owns their keys, erases. `python -m appliance.storage` is the process."""
