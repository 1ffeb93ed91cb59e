"""The vault: keeps recordings in buckets, owns their keys, erases. `python -m appliance.storage.vault` is the process."""
