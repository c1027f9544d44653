"""Metric names: those that a server has by specification, and those that a PromQL expression asks for."""

import re

SERVED = {
    *("memory_usage_bytes", "cpu_usage_percent", "active_connections_total", "goroutines_count", "http_requests_total"),
    *(
        f"hmac_file_server_{name}"
        for name in (
            *("upload_duration_seconds", "uploads_total", "upload_errors_total", "upload_bytes_total"),
            *("download_duration_seconds", "downloads_total", "download_errors_total", "download_bytes_total"),
            *("goroutines", "upload_size_bytes", "errors_total", "auth_failures_total", "bans_total", "bans_active"),
            *("rate_limited_total", "transfers_active", "sessions_active", "resumed_uploads_total"),
            *("store_bytes", "store_files", "store_free_bytes", "files_deleted_total", "versions_kept"),
            "deduplicated_bytes_total",
            *("backend_up", "backend_errors_total", "state_failovers_total"),
            *("disk_queue_seconds", "fsync_duration_seconds", "build_info"),
        )
    ),
}
"""The specification's names, and what deduplication saves; a histogram's series end in one of HISTOGRAM."""

HISTOGRAMS = {
    f"hmac_file_server_{name}"
    for name in (
        *("upload_duration_seconds", "download_duration_seconds", "upload_size_bytes"),
        *("disk_queue_seconds", "fsync_duration_seconds"),
    )
}
LABELS = {
    "http_requests_total": {"method", "path"},
    "hmac_file_server_errors_total": {"operation", "code"},
    "hmac_file_server_auth_failures_total": {"protocol", "reason"},
    "hmac_file_server_transfers_active": {"direction"},
    "hmac_file_server_files_deleted_total": {"reason"},
    "hmac_file_server_backend_up": {"backend"},
    "hmac_file_server_backend_errors_total": {"backend"},
    "hmac_file_server_build_info": {"version"},
}
EVERYWHERE = {"job", "instance"}

_TEXT = re.compile(r'"[^"]*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_MATCHERS = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}")
_WORD = re.compile(r"(?<![\w:.$])[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])")
_OPERATORS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


def series() -> set[str]:
    """Names of all series that a scrape may hold."""
    buckets = {f"{name}_{end}" for name in HISTOGRAMS for end in ("bucket", "sum", "count")}
    return (SERVED - HISTOGRAMS) | buckets


def asked(expression: str) -> set[str]:
    """Names of the metrics that an expression asks for."""
    plain = _RANGE.sub(" ", _GROUPING.sub(" ", _TEXT.sub('""', expression)))
    plain = re.sub(r"\{[^}]*\}", " ", plain)
    return {word for word in _WORD.findall(plain) if word.lower() not in _OPERATORS}


def matched(expression: str) -> set[tuple[str, str]]:
    """(metric, label) for each label that an expression selects by."""
    found = set()
    for name, matchers in _MATCHERS.findall(_TEXT.sub('""', expression)):
        found |= {(name, label) for label in re.findall(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)", matchers)}
    return found


def unknown_labels(expression: str) -> set[tuple[str, str]]:
    """(metric, label) where the metric has no such label."""
    return {(n, label) for n, label in matched(expression) if label not in LABELS.get(n, set()) | EVERYWHERE | {"le"}}
