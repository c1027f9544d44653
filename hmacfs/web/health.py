"""Health and status over HTTP: ``/health/live``, ``/health/ready`` and ``/status.json``."""

import json
from collections.abc import Callable
from typing import Any

from hmacfs.services.health import Health
from hmacfs.services.status import Status, status_object, verdict_object
from hmacfs.web.reply import Reply
from hmacfs.web.requests import Environ


def live(_environ: Environ) -> Reply:
    """200 as long as the worker's loop runs: who gets no answer from it may be killed. Nothing else is asked."""
    return _reply(200, "text/plain; charset=utf-8", b"ok\n")


class HealthPages:
    """Args: status: what the server does now, in bounded time."""

    def __init__(self, health: Health, status: Callable[[], Status]) -> None:
        self._health = health
        self._status = status

    def ready(self, _environ: Environ) -> Reply:
        """200, or 503 where uploads would be refused; the body says why, and what else wants a person."""
        verdict = self._health.verdict()
        return _json(200 if verdict.is_ready else 503, verdict_object(verdict))

    def status(self, _environ: Environ) -> Reply:
        """200 in any condition: it is what was asked for."""
        return _json(200, status_object(self._status()))


def _json(status: int, values: dict[str, Any]) -> Reply:
    return _reply(status, "application/json", json.dumps(values).encode() + b"\n")


def _reply(status: int, kind: str, body: bytes) -> Reply:
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    return Reply(status, headers, body)
