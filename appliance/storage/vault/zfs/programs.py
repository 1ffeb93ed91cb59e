"""Channel programs: many facts in one call, and user properties in one transaction. What they tell, parsed.

What ZFS writes into the pool's history of each program, even of one that only reads: its text, its arguments, and what it
returned up to `zfs_history_output_max`. So few are run, they are short, and they carry names alone.

Properties of snapshots are asked for by name (`NAMES` lists them) and not with `zfs.list.user_properties`: that one stops
the kernel where it cannot read a dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import unquote

NAMES: Final = "ew.zfs:names"
"""Of a snapshot: the names of its other properties, without `ew:`, with spaces between."""
KIND: Final = "ew:kind"
"""Of a dataset of ours: root, tenant, line, bucket, reserve. Others below the root are strangers."""
OPEN: Final = "ew:open"
"""Of a bucket: `1`: it may have been written since it was last unmounted by us. Else nothing, or a mark (`MARK`) with the
bytes that the bucket refers to: with other bytes, after a rollback by hand say, it counts for nothing. One property, so
that whoever opens a bucket for writing takes its mark away in the same transaction."""
WRITTEN: Final = "1"
ORIGIN: Final = "ew:origin"
"""Of a bucket that was received: `received`; of one that was made ours since, until it is first written: `adopted`."""
RECEIVED: Final = "received"
ADOPTED: Final = "adopted"

_TOOLS: Final = """
local argv = (...)["argv"]
local out = {}
local function esc(v)
  return (string.gsub(tostring(v), "[%c%%]", function(c) return string.format("%%%02X", string.byte(c)) end))
end
local function put(fields) out[#out + 1] = table.concat(fields, "\\t") end
local function get(ds, name)
  local v = zfs.get_prop(ds, name)
  if v == nil then return "" end
  return esc(v)
end
local function own(ds, name)
  local v, source = zfs.get_prop(ds, name)
  if v == nil or source ~= ds then return "" end
  return esc(v)
end
local function holds(s, fields, mark)
  if zfs.get_prop(s, "userrefs") ~= 0 then
    for tag in zfs.list.holds(s) do fields[#fields + 1] = mark .. esc(tag) end
  end
end
"""

FACTS: Final = f"""{_TOOLS}
local function tell(s)
  local fields = {{"s", esc(s), get(s, "createtxg"), get(s, "creation"), get(s, "guid")}}
  for name in string.gmatch(own(s, "{NAMES}"), "[^ ]+") do
    fields[#fields + 1] = "p" .. name .. "=" .. own(s, "ew:" .. name)
  end
  holds(s, fields, "h")
  put(fields)
end
local at = string.match(argv[1], "@([^ ]+)")
local function asked(word) return string.find(argv[1], word, 1, true) end
local brief, children, tags, snapshots = asked("brief"), asked("children"), asked("tags"), asked("snapshots")
local function opened(ds)
  local v = own(ds, "{OPEN}")
  local word, size = string.match(v, "^(%S+) (%d+)$")
  if word == nil then return v end
  if get(ds, "referenced") ~= size then return "" end
  return word
end
local function rest(ds)
  if brief then return "", "", "", "" end
  return own(ds, "{ORIGIN}"), get(ds, "encryptionroot"), get(ds, "guid"), get(ds, "type")
end
for i = 2, #argv do
  local ds = argv[i]
  if zfs.exists(ds) then
    local mine = own(ds, "{KIND}")
    local open, key, torn = "", "", ""
    if mine == "bucket" then open = opened(ds) end
    if mine == "bucket" or not brief then key, torn = get(ds, "keystatus"), get(ds, "inconsistent") end
    local origin, root, guid, kind = rest(ds)
    put({{"d", esc(ds), mine, open, origin, key, root, guid, torn, kind}})
    if mine ~= "bucket" or tags or not brief then
      for child in zfs.list.children(ds) do
        put({{"c", esc(child)}})
        if not children then break end
      end
    end
    if at then
      if zfs.exists(ds .. "@" .. at) then tell(ds .. "@" .. at) end
    elseif snapshots then
      for s in zfs.list.snapshots(ds) do tell(s) end
    elseif tags then
      for s in zfs.list.snapshots(ds) do
        local fields = {{"t", esc(s)}}
        for tag in zfs.list.holds(s) do fields[#fields + 1] = esc(tag) end
        put(fields)
      end
    end
  end
end
return table.concat(out, "\\n")
"""
"""Of datasets: `argv[1]` says what beside their own facts: `children`; `snapshots`, or `@name`: that one alone; `tags`:
names of snapshots and what holds them, no more. `brief`: of their own facts kind, of buckets also OPEN, key, and whether
they are complete; what is below a bucket only with `tags`. Each fact costs a way down the tree."""

HELD: Final = f"""{_TOOLS}
local ours = {{}}
for i = 1, #argv do
  local s = argv[i]
  local ds = string.match(s, "^[^@]+")
  if ours[ds] == nil then ours[ds] = zfs.exists(ds) and own(ds, "{KIND}") == "bucket" end
  if ours[ds] and zfs.exists(s) then
    local fields = {{esc(s)}}
    holds(s, fields, "")
    put(fields)
  end
end
return table.concat(out, "\\n")
"""
"""Of snapshots that are there, in buckets of ours: their holds. Whoever wants no more need not read thousands."""

MARK: Final = f"""{_TOOLS}
for i = 1, #argv, 2 do
  local ds = argv[i]
  if zfs.exists(ds) and get(ds, "keystatus") == "unavailable" and own(ds, "{OPEN}") ~= "{WRITTEN}" then
    local number = zfs.sync.set_prop(ds, "{OPEN}", argv[i + 1] .. " " .. get(ds, "referenced"))
    if number ~= 0 then return tostring(number) end
  end
end
return "0"
"""
"""Notes words (each after its dataset) on those that nobody can have mounted."""

SET: Final = """
local argv = (...)["argv"]
if argv[3] == "" then return tostring(zfs.sync.inherit(argv[1], argv[2])) end
return tostring(zfs.sync.set_prop(argv[1], argv[2], argv[3]))
"""


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """One snapshot. `name`: what comes after the @; `created_s`: seconds since the Unix epoch."""

    name: str
    txg: int
    created_s: int
    guid: int
    properties: Mapping[str, str] = field(default_factory=dict)
    holds: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Facts:
    """One dataset. `kind`, `open`, `origin` are properties of its own, empty where it has none. `open`: of a mark its word,
    where it holds."""

    name: str
    kind: str
    open: str
    origin: str
    key_loaded: bool
    own_root: bool
    guid: int
    unfinished: bool  # a receive into it was broken off
    type: str
    children: tuple[str, ...] = ()
    snapshots: tuple[SnapshotFacts, ...] = ()
    tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By the name of a snapshot, where these were asked for without the rest."""

    @property
    def written(self) -> bool:
        """Whether it may have been written since it was last unmounted by us."""
        return self.open == WRITTEN

    @property
    def mark(self) -> str:
        """What was noted of its files as they are; empty where they may have changed since."""
        return "" if self.written else self.open

    @property
    def is_copy(self) -> bool:
        """Whether it is somebody else's, received here and read-only."""
        return self.origin == RECEIVED

    def with_tags_alone(self) -> Facts:
        """The same, of its snapshots only names and holds."""
        return replace(self, snapshots=(), tags={one.name: one.holds for one in self.snapshots})

    def snapshot(self, name: str) -> SnapshotFacts | None:
        """The one of this name."""
        return next((one for one in self.snapshots if one.name == name), None)


def parse(text: str) -> list[Facts]:
    """What FACTS returned; snapshots in order of age."""
    found: list[tuple[list[str], list[str], list[SnapshotFacts], dict[str, frozenset[str]]]] = []
    for line in text.split("\n") if text else ():
        kind, *fields = line.split("\t")
        if kind == "d":
            found.append(([unquote(one) for one in fields], [], [], {}))
        elif kind == "c":
            found[-1][1].append(unquote(fields[0]))
        elif kind == "t":
            snapshot, *tags = (unquote(one) for one in fields)
            found[-1][3][snapshot.partition("@")[2]] = frozenset(tags)
        else:
            found[-1][2].append(_snapshot(fields))
    return [_facts(*one) for one in found]


def parse_held(text: str) -> dict[str, frozenset[str]]:
    """What HELD returned: full names of snapshots, and the tags that hold them."""
    found = {}
    for line in text.split("\n") if text else ():
        name, *tags = (unquote(one) for one in line.split("\t"))
        found[name] = frozenset(tags)
    return found


def _facts(
    fields: list[str],
    children: list[str],
    snapshots: list[SnapshotFacts],
    tags: dict[str, frozenset[str]],
) -> Facts:
    name, kind, open_, origin, key, root, guid, unfinished, type_ = fields
    return Facts(
        name,
        kind,
        open_,
        origin,
        key == "available",
        root == name,
        _unsigned(guid),
        unfinished == "1",
        type_,
        tuple(sorted(children)),
        tuple(sorted(snapshots, key=lambda one: (one.txg, one.name))),
        tags,
    )


def _snapshot(fields: list[str]) -> SnapshotFacts:
    name, txg, created, guid, *rest = (unquote(one) for one in fields)
    properties, holds = {}, set()
    for one in rest:
        if one[0] == "h":
            holds.add(one[1:])
        else:
            key, _, value = one[1:].partition("=")
            properties[f"ew:{key}"] = value
    return SnapshotFacts(
        name.partition("@")[2], int(txg), int(created), _unsigned(guid), properties, frozenset(holds)
    )


def _unsigned(number: str) -> int:
    """Lua has signed numbers of 64 bits; what ZFS means has no sign."""
    return int(number or 0) % (1 << 64)
