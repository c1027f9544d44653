"""A status goes over JSON and comes back, also between versions."""

import json
import math
from typing import Any

import pytest

from hmacfs.core.health import Facts, Reason, Store, judge
from hmacfs.services.status import (
    Completed,
    Status,
    Stored,
    Sweep,
    Tier,
    status_object,
    status_of,
    verdict_object,
)

FULL = Status(
    version="1.2.3",
    condition="degraded",
    reasons=(Reason("tier-down", "Shared state: redis is down (gone)."),),
    uptime=90,
    workers=4,
    memory=1 << 27,
    cpu=12.5,
    connections=7,
    uploads=2,
    downloads=1,
    bans=3,
    completed=Completed(10, 20),
    store=Stored(files=5, bytes=500, versions=1, unfinished=2, free=1 << 30),
    tiers=(Tier("redis", "gone"), Tier("embedded")),
    sweep=Sweep(60, "storage-failed"),
    secret_trouble="SecretFile: gone.",
)


def over_json(values: dict[str, Any]) -> Any:
    return json.loads(json.dumps(values))


def test_it_comes_back_as_it_was() -> None:
    assert status_of(over_json(status_object(FULL))) == FULL


def test_what_is_not_known_stays_unknown() -> None:
    bare = Status(**{**{name: getattr(FULL, name) for name in Status.__slots__}, "completed": None, "store": None})

    assert status_of(over_json(status_object(bare))) == bare


def test_a_newer_server_may_say_more() -> None:
    values = over_json(status_object(FULL))
    values["mood"] = "good"
    values["store"]["colour"] = "blue"
    values["tiers"][0]["age"] = 5

    assert status_of(values) == FULL


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        "status",
        {},
        {"version": "1.2.3"},
        {**status_object(FULL), "reasons": 5},
        {**status_object(FULL), "reasons": [5]},
        {**status_object(FULL), "tiers": [{}]},
        {**status_object(FULL), "store": {"files": 5}},
        {name: value for name, value in status_object(FULL).items() if name != "sweep"},
        *({**status_object(FULL), "uptime": uptime} for uptime in (-5, "x", True, 1.5, 10**400, None)),
        *({**status_object(FULL), "cpu": cpu} for cpu in (math.inf, math.nan, "x", [])),
        {**status_object(FULL), "condition": 5},
        {**status_object(FULL), "tiers": [{"name": ["redis"]}]},
        {**status_object(FULL), "store": {**status_object(FULL)["store"], "files": None}},
    ],
)
def test_anything_else_is_no_status(values: Any) -> None:
    with pytest.raises(ValueError, match="no status"):
        status_of(over_json(values))


def test_a_verdict_says_condition_codes_sentences_and_which_keep_out() -> None:
    verdict = judge(Facts(Store("gone"), down={"redis": "gone"}))

    assert over_json(verdict_object(verdict)) == {
        "condition": "not-ready",
        "reasons": [
            {"code": "store-not-writable", "sentence": "The store cannot be written: gone.", "keeps_out": True},
            {"code": "tier-down", "sentence": "Shared state: redis is down (gone).", "keeps_out": False},
        ],
    }
