"""Settings to what operators ask: metrics and health, on a listener of their own or on the main one."""

from hmacfs.settings import Settings, operations_address
from hmacfs.web.operations import Operations
from hmacfs.web.reply import Reply
from hmacfs.web.requests import Environ

METRICS = "/metrics"


def operations(settings: Settings) -> Operations:
    """What answers the paths of operations; nothing where MetricsEnabled is false."""
    if not settings.metrics_enabled:
        return Operations({}, is_apart=False)
    return Operations({METRICS: _metrics}, is_apart=operations_address(settings) is not None)


def _metrics(_environ: Environ) -> Reply:
    return Reply(200, [("Content-Type", "text/plain; version=0.0.4; charset=utf-8"), ("Content-Length", "0")])
