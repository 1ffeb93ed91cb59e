"""A hundred tenants, a thousand lines, ten thousand agents: what each page and change takes through the API."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

import earwitness
from appliance.cli.demonstration.embedded import embedded_box
from bench.downloads import client_of
from earwitness.v1 import access_pb2, tenants_pb2

TENANTS: Final = 100
LINES: Final = 10  # of each tenant
AGENTS: Final = 10  # of each line
REPEATS: Final = 40
MUST_MS: Final = 50.0
PAGE: Final = 50
PAUSE_S: Final = 0.1


@dataclass(frozen=True)
class Figure:
    """One kind of call; milliseconds."""

    call: str
    p50: float
    p95: float


def measured(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and milliseconds; again where one identity has made as many as it may, which is no figure."""
    while True:
        began = time.perf_counter()
        try:
            answer = call()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            time.sleep(PAUSE_S)
            continue
        return answer, (time.perf_counter() - began) * 1000


def line(number: int, agents: int = AGENTS) -> tenants_pb2.Line:
    """A line with numbers, agents with rights of their own, and a list of numbers that are not recorded."""
    return tenants_pb2.Line(
        display_name=f"Line {number}",
        numbers=[f"+4416329{number:05d}{last}" for last in range(3)],
        agents=[
            tenants_pb2.AgentRights(number=f"{number:05d}{agent:03d}", may=tenants_pb2.RIGHTS_PAUSE)
            for agent in range(agents)
        ],
        do_not_record=[f"+447700{number:05d}*"],
    )


def fill(client: earwitness.Client) -> tuple[list[str], list[str], dict[str, list[float]]]:
    """Names of tenants and lines, and how long the first and the last of their makings took."""
    took: dict[str, list[float]] = {"CreateTenant": [], "CreateLine": [], "CreateIdentity": []}

    def timed(kind: str, call: Callable[[], Any]) -> Any:
        answer, milliseconds = measured(call)
        took[kind].append(milliseconds)
        return answer

    tenants: list[str] = []
    lines: list[str] = []
    for number in range(TENANTS):
        request = tenants_pb2.CreateTenantRequest(
            tenant=tenants_pb2.Tenant(display_name=f"Practice {number}")
        )
        tenants.append(
            timed("CreateTenant", lambda request=request: client.tenants.CreateTenant(request)).tenant.name
        )
    for number in range(TENANTS * LINES):
        parent = tenants[number // LINES]
        made = tenants_pb2.CreateLineRequest(parent=parent, line=line(number))
        lines.append(timed("CreateLine", lambda made=made: client.tenants.CreateLine(made)).line.name)

    def agents(tenant: int) -> None:
        for agent in range(LINES * AGENTS):
            identity = access_pb2.Identity(
                name=f"{tenants[tenant]}/identities/agent-{agent}",
                roles=[access_pb2.IDENTITY_ROLE_AGENT],
                agent_number=f"{tenant:03d}{agent:04d}",
            )
            asked = access_pb2.CreateIdentityRequest(identity=identity)
            timed("CreateIdentity", lambda asked=asked: client.access.CreateIdentity(asked))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(agents, range(TENANTS)))
    return tenants, lines, took


def calls(
    client: earwitness.Client, tenants: list[str], lines: list[str]
) -> dict[str, Callable[[random.Random], Any]]:
    """What is asked again and again, by name."""

    def update(rng: random.Random) -> Any:
        return client.tenants.UpdateLine(
            tenants_pb2.UpdateLineRequest(
                line=tenants_pb2.Line(name=rng.choice(lines), display_name=f"Line {rng.random()}")
            )
        )

    def numbers(rng: random.Random) -> Any:
        number = rng.randrange(len(lines))
        return client.tenants.UpdateLine(
            tenants_pb2.UpdateLineRequest(
                line=tenants_pb2.Line(
                    name=lines[number],
                    numbers=[f"+4416329{number:05d}{rng.randrange(10)}{rng.randrange(10)}"],
                )
            )
        )

    def last_page(rng: random.Random) -> Any:
        request = tenants_pb2.ListLinesRequest(parent="tenants/-", page_size=1000)
        return client.tenants.ListLines(request)

    return {
        "list tenants, a page of 50": lambda rng: client.tenants.ListTenants(
            tenants_pb2.ListTenantsRequest(page_size=PAGE)
        ),
        "list lines of a tenant": lambda rng: client.tenants.ListLines(
            tenants_pb2.ListLinesRequest(parent=rng.choice(tenants), page_size=PAGE)
        ),
        "list lines of all, a page of 50": lambda rng: client.tenants.ListLines(
            tenants_pb2.ListLinesRequest(parent="tenants/-", page_size=PAGE)
        ),
        "list lines of all, a thousand": last_page,
        "get a line": lambda rng: client.tenants.GetLine(tenants_pb2.GetLineRequest(name=rng.choice(lines))),
        "history of a line": lambda rng: client.tenants.ListLineVersions(
            tenants_pb2.ListLineVersionsRequest(parent=rng.choice(lines))
        ),
        "update a line's name": update,
        "update a line's numbers": numbers,
        "list identities of a tenant": lambda rng: client.access.ListIdentities(
            access_pb2.ListIdentitiesRequest(parent=rng.choice(tenants), page_size=PAGE)
        ),
        "list identities of all, a page of 50": lambda rng: client.access.ListIdentities(
            access_pb2.ListIdentitiesRequest(parent="tenants/-", page_size=PAGE)
        ),
        "get an identity": lambda rng: client.access.GetIdentity(
            access_pb2.GetIdentityRequest(name=_somebody(rng, tenants))
        ),
    }


def _somebody(rng: random.Random, tenants: list[str]) -> str:
    return f"{rng.choice(tenants)}/identities/agent-{rng.randrange(LINES * AGENTS)}"


def run() -> dict[str, Any]:
    """Figures of each call, and how the makings grew."""
    with (
        tempfile.TemporaryDirectory(prefix="earwitness-bench-") as folder,
        embedded_box(Path(folder) / "box") as box,
    ):
        client = client_of(box)
        began = time.perf_counter()
        tenants, lines, took = fill(client)
        filled_s = time.perf_counter() - began
        rng = random.Random(1)
        figures = []
        for name, call in calls(client, tenants, lines).items():
            some = [measured(partial(call, rng))[1] for _ in range(REPEATS)]
            figures.append(Figure(name, *(float(np.percentile(some, part)) for part in (50, 95))))
    grown = {
        name: {"first": float(np.median(some[:50])), "last": float(np.median(some[-50:]))}
        for name, some in took.items()
    }
    return {"filled_s": filled_s, "made_ms": grown, "calls": [asdict(one) for one in figures]}
