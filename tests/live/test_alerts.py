"""Every alert of contrib/prometheus fires in a real Prometheus for a real server to which just that has happened.

How long the trouble must last (``for``) is what tests/contrib shows with promtool; here it is nothing.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.support.http import MIB, put, request
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.prometheus import CONTRIB, SCRAPES, Prometheus
from tests.support.running import small_tmpfs
from tests.support.server import Server
from tests.support.slot import WRONG, face
from tests.support.tracing import slow_syncs

EXPECTED = {
    "HmacfsDown": "gone",
    "HmacfsFaults": "full",
    "HmacfsStoreFull": "full",
    "HmacfsStoreFillsUp": "full",
    "HmacfsBackendDown": "full",
    "HmacfsSecretMismatch": "mismatched",
    "HmacfsManyBans": "attacked",
    "HmacfsSlowDisk": "slow",
}
"""Alert to the one server for which it fires."""

SYNC_SECONDS = 1.2
PAUSE = 0.05

Firing = dict[str, list[dict[str, Any]]]
"""Alerts by name; ``labels.instance`` is the name of a server."""


def fill(server: Server, numbers: Iterator[int]) -> None:
    """Uploads of a mebibyte until MinFreeSpace is reached, and on."""
    answer = put(server, f"full/{next(numbers)}", bytes(MIB))
    assert face(answer) in ((201, None), (507, "storage-full")), face(answer)


def guess(server: Server, numbers: Iterator[int]) -> None:
    """A wrong signature of one more client."""
    client = [("X-Forwarded-For", f"198.51.100.{next(numbers) % 250 + 1}"), ("Content-Length", "0")]
    assert request(server, "PUT", f"{server.prefix}guess?{WRONG}", client).status == 403


def upload(server: Server, numbers: Iterator[int]) -> None:
    assert put(server, f"slow/{next(numbers)}", b"x").status == 201


def started(stack: ExitStack, folder: Path, **keys: Any) -> Server:
    folder.mkdir()
    return stack.enter_context(Server(folder, **keys))


@contextmanager
def trouble(stack: ExitStack, deeds: dict[Server, Callable[[Server, Iterator[int]], None]]) -> Iterator[None]:
    """Each server has its trouble again and again while the block runs."""
    stop = Event()

    def go_on(server: Server) -> None:
        numbers = count()
        while not stop.is_set():
            deeds[server](server, numbers)
            stop.wait(PAUSE)

    with ThreadPoolExecutor(len(deeds)) as pool:
        running = [pool.submit(go_on, server) for server in deeds]
        try:
            yield
        finally:
            stop.set()
            stack.close()  # nobody waits for syncs that are slow no more
    for each in running:
        each.result()


@pytest.fixture(scope="module")
def firing(tmp_path_factory: pytest.TempPathFactory) -> Firing:
    folder = tmp_path_factory.mktemp("alerts")
    with small_tmpfs(folder / "small", 64) as small, ExitStack() as servers, ExitStack() as slowness:
        nobody = {"RedisAddr": f"127.0.0.1:{free_port()}"}
        full = started(servers, folder / "full-server", StoreDir=str(small / "store"), MinFreeSpace="24MiB", **nobody)
        attacked = started(servers, folder / "attacked-server", BlockAfterFails=1)
        mismatched = started(servers, folder / "mismatched-server")
        slow = started(servers, folder / "slow-server")
        assert put(attacked, "right", b"x").status == 201  # else the secret would be suspected, and nobody banned
        slowness.enter_context(slow_syncs(slow.worker(), SYNC_SECONDS))
        troubled = {"full": full, "attacked": attacked, "mismatched": mismatched, "slow": slow}
        names = {"{}:{}".format(*each.operations): name for name, each in troubled.items()}
        gone = f"127.0.0.1:{free_port()}"
        (folder / "prometheus").mkdir()
        with Prometheus(folder / "prometheus", [*names, gone], at_once=True) as prometheus:
            at_rest = f"count(hmac_file_server_store_free_bytes) == {len(names)}"
            until(lambda: prometheus.ask(at_rest), "the servers are scraped before their trouble", SCRAPES)
            with trouble(slowness, {full: fill, attacked: guess, mismatched: guess, slow: upload}):
                return collected(prometheus, {**names, gone: "gone"})


def collected(prometheus: Prometheus, names: dict[str, str]) -> Firing:
    """What fires when every alert does; what does after a while where one does not."""
    found: Firing = {}

    def all_fire() -> bool:
        found.clear()
        for rule in prometheus.rules():
            if rule["type"] == "alerting":
                alerts = [alert for alert in rule["alerts"] if alert["state"] == "firing"]
                found[rule["name"]] = alerts
                for alert in alerts:
                    alert["labels"]["instance"] = names[alert["labels"]["instance"]]
        return bool(found) and all(found.values())

    try:
        until(all_fire, "every alert fires", SCRAPES)
    except AssertionError:
        pass  # each has a test that tells which does not
    return found


@pytest.mark.parametrize("alert", EXPECTED)
def test_an_alert_fires_for_the_server_that_is_in_trouble_and_for_no_other(firing: Firing, alert: str) -> None:
    assert {each["labels"]["instance"] for each in firing[alert]} == {EXPECTED[alert]}
    for words in (each["annotations"] for each in firing[alert]):
        assert "{{" not in "".join(words.values())
        assert "error" not in words["summary"]
        assert words["runbook"] == f"docs/operations.md#{alert.lower()}"


def test_these_are_all_alerts_that_there_are() -> None:
    text = (CONTRIB / "prometheus" / "hmacfs.alerts.yml").read_text(encoding="utf-8")

    assert {line.split()[-1] for line in text.splitlines() if "- alert: " in line} == set(EXPECTED)
