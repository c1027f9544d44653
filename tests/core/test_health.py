"""Facts about a server and the verdict on them: what keeps uploads out, and what only wants a person."""

import dataclasses
from typing import Any

import pytest

from hmacfs.core.health import Condition, Facts, Store, Verdict, judge
from hmacfs.core.wallclock import Swept

MIB = 1024 * 1024
WELL = Facts(store=Store(free=100 * MIB, swept=Swept()), least_free=50 * MIB, memory=80 * MIB)

KEEPING_OUT: list[tuple[str, dict[str, Any], str]] = [
    ("draining", {"is_draining": True}, "The server is about to stop; what runs may finish."),
    (
        "store-not-writable",
        {"store": Store("Read-only file system", 100 * MIB)},
        "The store cannot be written: Read-only file system.",
    ),
    (
        "low-space",
        {"store": Store(free=50 * MIB - 1)},
        "50.0 MiB are free, less than MinFreeSpace (50.0 MiB).",
    ),
    (
        "memory-over-limit",
        {"memory": 80 * MIB + 1, "most_memory": 80 * MIB},
        "The workers use 80.0 MiB, more than MaxMemoryMB (80.0 MiB): uploads are refused.",
    ),
]

DEGRADING: list[tuple[str, dict[str, Any], str]] = [
    (
        "tier-down",
        {"down": {"redis": "it refuses connections"}},
        "Shared state: redis is down (it refuses connections).",
    ),
    (
        "sweep-failing",
        {"store": Store(free=100 * MIB, swept=Swept(trouble="storage-failed"))},
        "The last sweep failed (storage-failed); the log says why.",
    ),
    (
        "secret-unreadable",
        {"secret_trouble": "SecretFile: /etc/hmacfs/secret does not exist."},
        "The secret cannot be read again, the last good one stays: SecretFile: /etc/hmacfs/secret does not exist.",
    ),
]


def facts(**changed: Any) -> Facts:
    return dataclasses.replace(WELL, **changed)


def codes(verdict: Verdict) -> list[str]:
    return [reason.code for reason in verdict.reasons]


def test_a_server_that_is_well_is_ready_and_has_no_reasons() -> None:
    assert judge(WELL) == Verdict()
    assert (judge(WELL).condition, judge(WELL).is_ready) == (Condition.READY, True)


@pytest.mark.parametrize(("code", "changed", "sentence"), KEEPING_OUT)
def test_what_refuses_uploads_makes_it_not_ready(code: str, changed: dict[str, Any], sentence: str) -> None:
    verdict = judge(facts(**changed))

    (reason,) = verdict.reasons
    assert (reason.code, reason.sentence, reason.keeps_out) == (code, sentence, True)
    assert (verdict.condition, verdict.is_ready) == (Condition.NOT_READY, False)


@pytest.mark.parametrize(("code", "changed", "sentence"), DEGRADING)
def test_what_costs_nobody_a_file_only_degrades_it(code: str, changed: dict[str, Any], sentence: str) -> None:
    verdict = judge(facts(**changed))

    (reason,) = verdict.reasons
    assert (reason.code, reason.sentence, reason.keeps_out) == (code, sentence, False)
    assert (verdict.condition, verdict.is_ready) == (Condition.DEGRADED, True)


@pytest.mark.parametrize(
    "changed",
    [
        {"store": Store(free=50 * MIB)},  # exactly MinFreeSpace: a file of 0 bytes is taken
        {"store": Store(free=0), "least_free": 0},
        {"store": Store(free=None)},
        {"memory": 80 * MIB, "most_memory": 80 * MIB},
        {"memory": 1 << 50, "most_memory": 0},
        {"store": Store(free=100 * MIB, swept=None)},
    ],
)
def test_at_its_limits_and_where_a_fact_is_not_known_it_is_well(changed: dict[str, Any]) -> None:
    assert judge(facts(**changed)).condition is Condition.READY


def test_each_tier_that_is_down_is_a_reason_of_its_own() -> None:
    verdict = judge(facts(down={"redis": "a", "postgres": "b", "embedded": "c"}))

    assert codes(verdict) == ["tier-down"] * 3
    assert [reason.sentence.split()[2] for reason in verdict.reasons] == ["redis", "postgres", "embedded"]
    assert verdict.is_ready


def test_all_reasons_are_told_those_first_that_keep_uploads_out() -> None:
    everything: dict[str, Any] = {}
    for _, changed, _ in (*DEGRADING, *KEEPING_OUT):
        everything |= changed
    everything["store"] = Store("Input/output error", 0, Swept(trouble="storage-failed"))

    verdict = judge(facts(**everything))

    assert codes(verdict) == [code for code, _, _ in (*KEEPING_OUT, *DEGRADING)]
    assert verdict.condition is Condition.NOT_READY
