"""Every metric that we expose: name, labels, buckets and meaning. Names and types are promised to dashboards.

Counters and histograms are kept in files that outlive a worker, gauges are read when somebody asks. No label holds a
path, an address, a token or a user, and every label has a fixed set of values.
"""

from dataclasses import dataclass

OURS = "hmac_file_server_"

METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS")
"""What the label ``method`` says; "other" for all others."""

PROTOCOLS = ("v", "v2", "token", "v3", "bearer", "none")
REASONS = ("missing", "malformed", "wrong", "expired", "early")
"""Why a signature did not hold."""

OTHER = "other"
"""The value of a label for whatever is not in its set."""

DELETED = (
    *("FileTTL", "DeleteFilesAfterPeriod", "MaxRetentionTime", "MaxRetentionSize", "MaxVersions"),
    *("claim", "DELETE"),
)
"""Why a file was deleted: the key of the rule, its own end, or because somebody asked."""

BAD_HEAD = "bad-head"
"""The code of a request head that could not be understood, so that it never became a request."""

OPERATIONS = ("upload", "download", "delete", "metrics", OTHER)


@dataclass(frozen=True, slots=True)
class Family:
    """Attributes:
    labels: their names.
    buckets: upper bounds of a histogram, without the infinite one.
    """

    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_TRANSFER_SECONDS = (0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0)
_DISK_SECONDS = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
_SIZES = tuple(1024.0 * 4**power for power in range(12))
"""1 KiB to 4 GiB."""

COUNTERS = (
    Family("http_requests_total", "Requests, by method and route template.", ("method", "path")),
    Family(OURS + "uploads_total", "Completed uploads."),
    Family(OURS + "upload_errors_total", "Refused or failed uploads."),
    Family(OURS + "upload_bytes_total", "Bytes of bodies that were taken in and kept."),
    Family(OURS + "resumed_uploads_total", "Bodies that went on where an earlier one had stopped."),
    Family(OURS + "downloads_total", "Completed GETs."),
    Family(OURS + "download_errors_total", "GETs that were refused, found nothing or were broken off."),
    Family(OURS + "download_bytes_total", "Bytes of files that were sent."),
    Family(OURS + "errors_total", "Errors, by operation and stable code.", ("operation", "code")),
    Family(OURS + "auth_failures_total", "Signatures that did not hold.", ("protocol", "reason")),
    Family(OURS + "bans_total", "Addresses that were banned."),
    Family(OURS + "rate_limited_total", "Requests over RequestRateLimit."),
    Family(OURS + "files_deleted_total", "Files and old versions that were deleted, by reason.", ("reason",)),
    Family(OURS + "deduplicated_bytes_total", "Bytes that were freed because another file has the same content."),
    Family(OURS + "backend_errors_total", "How often a tier of shared state was found dead.", ("backend",)),
    Family(OURS + "state_failovers_total", "How often another tier of shared state began to serve a worker."),
)

HISTOGRAMS = (
    Family(OURS + "upload_duration_seconds", "Successful uploads, to publication.", buckets=_TRANSFER_SECONDS),
    Family(OURS + "download_duration_seconds", "Completed GETs.", buckets=_TRANSFER_SECONDS),
    Family(OURS + "upload_size_bytes", "Sizes of completed uploads.", buckets=_SIZES),
    Family(OURS + "disk_queue_seconds", "How long jobs waited for a thread of the disk pool.", buckets=_DISK_SECONDS),
    Family(OURS + "fsync_duration_seconds", "Syncs of files and folders.", buckets=_DISK_SECONDS),
)

GAUGES = (
    Family("memory_usage_bytes", "Resident memory of all workers."),
    Family("cpu_usage_percent", "CPU of all workers, in percent of one processor."),
    Family("active_connections_total", "Open client connections."),
    Family("goroutines_count", "Live greenlets of all workers."),
    Family(OURS + "goroutines", "Live greenlets of all workers."),
    Family(OURS + "transfers_active", "Bodies on their way.", ("direction",)),
    Family(OURS + "sessions_active", "Unfinished uploads that can go on."),
    Family(OURS + "bans_active", "Addresses that are banned."),
    Family(OURS + "store_bytes", "Bytes in the store: as of the last sweep, and what came and went since."),
    Family(
        OURS + "store_files",
        "Files in the store, old versions included: as of the last sweep, and what came and went since.",
    ),
    Family(OURS + "versions_kept", "Old versions, as of the last sweep."),
    Family(OURS + "store_free_bytes", "Free bytes of the store's filesystem."),
    Family(OURS + "backend_up", "Whether a tier of shared state answers.", ("backend",)),
    Family(OURS + "build_info", "Always 1; the label is the version.", ("version",)),
)
