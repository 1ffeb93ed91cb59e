"""Streams whose clients go while rights are looked at again: nothing is read of a call that is over."""

from __future__ import annotations

import threading

from earwitness.v1 import events_pb2, tenants_pb2

ROUNDS = 15


def test_clients_that_go_while_identities_change_do_no_harm(make_box, loop):
    box = make_box()
    changed = box.control._entrance.roll.changed
    over = threading.Event()

    def change() -> None:
        """Whoever watches is looked at again, as often as can be."""
        while not over.is_set():
            loop.call_soon_threadsafe(changed.notify)
            over.wait(0.0005)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(ROUNDS):
            clients = [box.client() for _ in range(8)]
            request = events_pb2.WatchEventsRequest(parent="tenants/-", from_oldest=True)
            streams = [client.events.WatchEvents(request) for client in clients]
            for stream in streams:
                next(iter(stream))
            for number, stream in enumerate(streams):
                stream.cancel() if number % 2 else clients[number].channel.close()
    finally:
        over.set()
        thread.join()
    assert box.client().tenants.ListTenants(tenants_pb2.ListTenantsRequest()).tenants
