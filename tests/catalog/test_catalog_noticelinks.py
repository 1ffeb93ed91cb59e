"""The key of links by which a notice is acknowledged."""

from __future__ import annotations

from appliance.catalog import noticelinks
from appliance.catalog.paging import Tokens


def test_the_key_of_links_is_its_own(sqlite):
    with sqlite.write() as connection:
        key = noticelinks.key(connection)
        assert len(key) == 32 and noticelinks.key(connection) == key != Tokens.of(connection).key


def test_links_that_an_older_release_mailed_go_on(sqlite):
    with sqlite.write() as connection:
        key = Tokens.of(connection).key
        assert noticelinks.key(connection) == key == noticelinks.key(connection)
