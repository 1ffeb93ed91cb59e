"""Records with planted words, says their keys, erases all but one, closes: for a search of the raw disks from outside."""

from __future__ import annotations

import json
import sys

from scene import open_house, say

from appliance.storage.vault.parking import undelete

PLANTED = b"the patient said that nobody must ever hear of this"

house = open_house()
vault = house.vault
assert vault is not None
names = [house.record(payload=PLANTED * 2000, created_ns=house.clocks.wall_ns) for _ in range(6)]
assert house.poll() == 6
bucket = vault.holding(names[0]).bucket
keys = {name: house.keys[name].hex() for name in names}
vault.delete(names[1], "scene")
vault.delete(names[2], "scene")
house.poll()
undelete(vault, names[2])
hold = house.parts.legal.create(house.tenant, "scene", "scene", "scene")
house.parts.legal.add(hold.case_id, "scene", [names[3]])
house.parts.legal.release(hold.case_id, "scene", "scene")
first = house.eraser.erase(names[:4], "scene")
second = house.eraser.erase(names[4:5], "scene")
bucket_key = vault.keystore.bucket_key(bucket.tenant_id, bucket.line_id, bucket.slice).hex()
assert vault.lease(names[5]).hex() == keys[names[5]]
say(
    "planted",
    json.dumps({"erased": [keys[name] for name in names[:5]], "kept": keys[names[5]], "bucket": bucket_key}),
)
house.close()
sys.exit(0)
