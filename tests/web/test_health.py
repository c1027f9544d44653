"""Health over HTTP: a status that balancers act on, and JSON that says why."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from hmacfs.core.health import Store
from hmacfs.services.health import Health, Limits, Sources
from hmacfs.services.status import status_object
from hmacfs.web import health
from hmacfs.web.health import HealthPages
from hmacfs.web.reply import Reply
from tests.services.test_status import FULL


def pages(store: Store, down: dict[str, str] | None = None) -> HealthPages:
    sources = Sources(lambda: store, lambda: False, lambda: down or {}, lambda: "", lambda: 0)
    return HealthPages(Health(sources, Limits()), lambda: FULL)


def body(reply: Reply) -> Any:
    assert isinstance(reply.body, bytes)
    assert ("Content-Length", str(len(reply.body))) in reply.headers
    assert ("Content-Type", "application/json") in reply.headers
    return json.loads(reply.body)


def test_a_worker_that_answers_is_alive() -> None:
    reply = health.live({})

    assert (reply.status, reply.body) == (200, b"ok\n")
    assert ("Content-Length", "3") in reply.headers


@pytest.mark.parametrize(
    ("store", "down", "status", "condition"),
    [
        (Store(), {}, 200, "ready"),
        (Store(), {"redis": "gone"}, 200, "degraded"),
        (Store("gone"), {}, 503, "not-ready"),
        (Store("gone"), {"redis": "gone"}, 503, "not-ready"),
    ],
)
def test_not_ready_is_503_and_degraded_is_not(store: Store, down: dict[str, str], status: int, condition: str) -> None:
    reply = pages(store, down).ready({})

    assert reply.status == status
    assert body(reply)["condition"] == condition
    assert len(body(reply)["reasons"]) == bool(store.trouble) + len(down)


def test_the_status_is_200_whatever_it_says() -> None:
    reply = pages(Store("gone")).status({})

    assert reply.status == 200
    assert body(reply) == json.loads(json.dumps(status_object(FULL)))


@pytest.mark.parametrize("page", [health.live, pages(Store()).ready, pages(Store()).status])
def test_no_answer_is_kept_by_anybody_in_between(page: Callable[[Any], Reply]) -> None:
    assert ("Cache-Control", "no-store") in page({}).headers
