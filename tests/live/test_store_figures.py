"""Figures of a store that does not answer: the last known ones, or none; everything else is told as before."""

import json
from pathlib import Path
from typing import Any

from tests.support.http import put
from tests.support.metrics import ask, scrape
from tests.support.polling import until
from tests.support.server import Server

ALWAYS_ANEW = {"hmacfs.operations:_STORE_FRESH": 0.0}
FREE = "hmac_file_server_store_free_bytes"


def status(server: Server) -> dict[str, Any]:
    answer = ask(server, "/status.json")
    assert answer.status == 200, answer.body
    told: dict[str, Any] = json.loads(answer.body)
    return told


def take_away_the_store(server: Server) -> None:
    server.store_dir.rename(server.folder / "elsewhere")


def test_the_last_known_figures_are_told_while_the_store_is_away(tmp_path: Path) -> None:
    with Server(tmp_path, constants=ALWAYS_ANEW) as server:
        assert put(server, "a/file", b"hello").status == 201
        until(lambda: status(server)["store"]["files"] == 1, "the file is counted")
        until(lambda: scrape(server).value(FREE) > 0, "metrics have it too")

        take_away_the_store(server)
        until(lambda: status(server)["condition"] == "not-ready", "it is told that the store is away")
        told, metrics = status(server), scrape(server)

    assert told["store"]["files"] == 1
    assert metrics.value(FREE) > 0
    assert metrics.value("hmac_file_server_uploads_total") == 1


def test_no_figures_are_told_of_a_store_that_has_never_answered(tmp_path: Path) -> None:
    with Server(tmp_path, constants=ALWAYS_ANEW) as server:
        take_away_the_store(server)

        told, metrics = status(server), scrape(server)

    assert told["store"] is None
    assert metrics.labels(FREE) == []
    assert told["workers"] == 1
