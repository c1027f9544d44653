"""The one table of keys: name, default as written in a file, kind, meaning; and the frozen Settings they fill.

Reading files and the environment is ``configfile.py``'s job. A key with ``works=False`` is known, typed and validated,
but has no effect in this version: ``hmacfs serve`` warns about it, ``hmacfs check`` refuses it.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, TypeVar

from hmacfs.kinds import (
    ADDRESS,
    ADDRESS_OR_NONE,
    BASE_URL,
    BOOLEAN,
    DATABASE,
    DIRECTORY,
    DURATION,
    EXTENSIONS,
    LEVEL,
    MODE,
    NETWORKS,
    OFFLOAD,
    ORIGINS,
    PATH,
    PREFIX,
    RATE,
    REDIS,
    SIZE,
    TEXT,
    TEXTS,
    TIMEOUT,
    TYPE_PATTERNS,
    Kind,
    auto_or_integer,
    choice,
    integer,
    size,
)
from hmacfs.units import Address

T = TypeVar("T")


@dataclass(frozen=True)
class Key:
    """One row of the table. ``default`` is as a file would spell it."""

    name: str
    attribute: str
    default: Any
    kind: Kind[Any]
    meaning: str
    works: bool
    secret: bool


def row(name: str, default: Any, kind: Kind[T], meaning: str, *, works: bool = True, secret: bool = False) -> T:
    meta = {"name": name, "default": default, "kind": kind, "meaning": meaning, "works": works, "secret": secret}
    return field(default=kind.parse(default), metadata=meta, repr=not secret)


def later(name: str, default: Any, kind: Kind[T], meaning: str, *, secret: bool = False) -> T:
    """A key that is read and validated, and has no effect yet."""
    return row(name, default, kind, meaning, works=False, secret=secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The effective configuration. Durations are seconds, sizes bytes, paths absolute once loaded."""

    # Listening
    listen_port: Address = row(
        "ListenPort", ":8080", ADDRESS, "address to listen on; :8080 is every interface, IPv4 and IPv6"
    )
    unix_socket: bool = row("UnixSocket", False, BOOLEAN, "true: ListenPort is the path of a Unix socket")
    unix_socket_mode: int = row("UnixSocketMode", "0660", MODE, "permissions of the Unix socket")
    unix_socket_group: str = row("UnixSocketGroup", "", TEXT, "group that owns the Unix socket; empty: our own")
    base_url: str = row(
        "BaseURL", "", BASE_URL, "what people see in front, for printed links; empty: http and ListenPort"
    )
    upload_sub_dir: str = row("UploadSubDir", "upload", PREFIX, "URL prefix of every slot; empty: none")
    trusted_proxies: tuple[str, ...] = row(
        "TrustedProxies",
        ["127.0.0.1", "::1", "unix:"],
        NETWORKS,
        "who may tell us the client's address in X-Forwarded-For",
    )
    cors_origins: tuple[str, ...] = row(
        "CORSOrigins", ["*"], ORIGINS, "web origins that may use this server from a browser"
    )
    metrics_enabled: bool = row("MetricsEnabled", True, BOOLEAN, "count, and serve metrics and health")
    metrics_port: Address | None = row(
        "MetricsPort", "127.0.0.1:9090", ADDRESS_OR_NONE, "where metrics and health are served; empty: on ListenPort"
    )

    # Secrets and signatures
    secret: str = row(
        "Secret", "", TEXT, "HMAC key shared with the XMPP server; empty: made at first start", secret=True
    )
    allow_weak_secret: bool = row("AllowWeakSecret", False, BOOLEAN, "accept short and published secrets, for tests")
    content_type_from_extension: bool = row(
        "ContentTypeFromExtension",
        False,
        BOOLEAN,
        "also accept v2 signatures over the type that the extension suggests",
    )
    secret_file: str = row("SecretFile", "", PATH, "file that holds the secret")
    secret_command: tuple[str, ...] = row(
        "SecretCommand", [], TEXTS, "command that prints the secret, an argument list"
    )
    secret_grace: int = row("SecretGrace", "24h", DURATION, "how long a replaced secret still verifies")
    previous_secrets: tuple[str, ...] = row(
        "PreviousSecrets", [], TEXTS, "further secrets that verify but never sign", secret=True
    )
    reask_secret_enabled: bool = row("ReaskSecretEnabled", False, BOOLEAN, "read the secret again from time to time")
    reask_secret_interval: int = row("ReaskSecretInterval", "24h", TIMEOUT, "how often")
    enable_v3: bool = row("EnableV3", False, BOOLEAN, "accept v3 signatures")
    jwt_secret: str = row("JWTSecret", "", TEXT, "key of Prosody's mod_http_file_share tokens", secret=True)
    delete_secret: str = row("DeleteSecret", "", TEXT, "Metronome's delete secret", secret=True)
    require_signed_downloads: bool = row("RequireSignedDownloads", False, BOOLEAN, "GET needs a v3 signature")

    # Storage
    store_dir: str = row("StoreDir", "./data/store", DIRECTORY, "where files live")
    state_dir: str = row("StateDir", "./data/state", DIRECTORY, "generated secret and other state of our own")
    file_mode: int = row("FileMode", "0640", MODE, "permissions of published files")
    dir_mode: int = row("DirMode", "0750", MODE, "permissions of folders made for them")
    durability: str = row(
        "Durability",
        "full",
        choice("full", "data", "none"),
        "full: file and folders synced before 201; data: the file; none",
    )
    min_free_space: int = row("MinFreeSpace", "256MiB", SIZE, "free space that uploads may not touch")
    deduplication_enabled: bool = row("DeduplicationEnabled", False, BOOLEAN, "equal content shares one inode")

    # Transfers
    upload_max_size: int = row("UploadMaxSize", 1073741824, SIZE, "largest file in bytes; 0: no limit")
    chunk_size: int = row("ChunkSize", 1048576, size(4096, 16777216), "bytes written to disk at a time")
    buffer_size: int = row("BufferSize", 65536, size(4096, 16777216), "least size of one socket read")
    max_bytes_per_second: int = row("MaxBytesPerSecond", 0, SIZE, "limit for one upload; 0: none")
    min_bytes_per_second: int = row("MinBytesPerSecond", 0, SIZE, "slower bodies are cut; 0: none")
    read_timeout: int = row("ReadTimeout", 900, TIMEOUT, "longest silence of a body")
    write_timeout: int = row("WriteTimeout", 900, TIMEOUT, "longest silence of a receiver")
    head_timeout: int = row("HeadTimeout", "10s", TIMEOUT, "to receive a request head")
    direct_downloads: str = row("DirectDownloads", "", OFFLOAD, "the proxy sends the bytes")
    enable_get_retries: bool = row(
        "EnableGetRetries", True, BOOLEAN, "a GET looks again, for a second, before it is refused for what may pass"
    )
    chunking_enabled: bool = row("ChunkingEnabled", True, BOOLEAN, "chunks in any order")
    resumable_uploads_enabled: bool = row("ResumableUploadsEnabled", True, BOOLEAN, "resumable uploads")
    enable_interim_responses: bool = row("EnableInterimResponses", False, BOOLEAN, "104 responses")
    session_ttl: int = row("SessionTTL", "24h", TIMEOUT, "life of an unfinished upload")
    max_sessions_per_slot: int = row("MaxSessionsPerSlot", 4, integer(1, 1000), "unfinished uploads of one slot")
    checksum_verification: bool = row("ChecksumVerification", True, BOOLEAN, "verify checksums that clients send")
    fast_lane: bool = later("FastLane", True, BOOLEAN, "the short way for ordinary small requests")

    # Limits and processes
    num_cores: int | None = row(
        "NumCores", "auto", auto_or_integer(1, 256), "worker processes; auto: one for each usable CPU"
    )
    graceful_shutdown_timeout: int = row(
        "GracefulShutdownTimeout", 30, DURATION, "time for running transfers at a stop"
    )
    max_workers: int | None = row(
        "MaxWorkers", "auto", auto_or_integer(1, 100000), "concurrent transfers of one process"
    )
    max_memory_mb: int = row("MaxMemoryMB", 0, integer(0, 2**31), "resident memory of all workers; 0: no limit")
    max_uploads_per_client: int = row("MaxUploadsPerClient", 0, integer(0, 2**31), "concurrent uploads of one address")
    request_rate_limit: str = row("RequestRateLimit", "", RATE, "requests of one address")
    user_quota: int = row("UserQuota", 0, SIZE, "bytes of one uploader; 0: no limit")
    quota_by_first_segment: bool = row("QuotaByFirstSegment", False, BOOLEAN, "the first path segment is the uploader")
    allowed_extensions: tuple[str, ...] = row("AllowedExtensions", [], EXTENSIONS, "nothing else is accepted")
    blocked_extensions: tuple[str, ...] = row("BlockedExtensions", [], EXTENSIONS, "never accepted")
    blocked_types: tuple[str, ...] = row("BlockedTypes", [], TYPE_PATTERNS, "content types never accepted")
    block_after_fails: int = row("BlockAfterFails", 10, integer(0, 2**31), "wrong signatures before a block; 0: off")
    block_duration: int = row("BlockDuration", 300, DURATION, "length of a first block")
    auto_unban: bool = row("AutoUnban", True, BOOLEAN, "later blocks end by themselves")
    auto_ban_time: int = row("AutoBanTime", 600, DURATION, "length of a second block; doubles up to a day")
    never_ban: tuple[str, ...] = row("NeverBan", [], NETWORKS, "networks that are never blocked")

    # Versions and retention
    enable_versioning: bool = row("EnableVersioning", False, BOOLEAN, "a PUT on an existing path keeps the old file")
    max_versions: int = row("MaxVersions", 5, integer(0, 10000), "old versions of a path that are kept; 0: none")
    versions_per_day: int = row(
        "VersionsPerDay", 10, integer(0, 100000), "new versions of one path in a day; 0: no limit"
    )
    file_ttl: int = row("FileTTL", 0, DURATION, "age limit")
    delete_files: bool = row("DeleteFiles", False, BOOLEAN, "delete by age")
    delete_files_after_period: int = row("DeleteFilesAfterPeriod", "30d", DURATION, "age limit of DeleteFiles")
    retention_policy_enabled: bool = row("RetentionPolicyEnabled", False, BOOLEAN, "delete by age and by size")
    max_retention_time: int = row("MaxRetentionTime", 0, DURATION, "age limit of the policy")
    max_retention_size: int = row("MaxRetentionSize", 0, SIZE, "size limit of the policy")
    sweep_interval: int = row("SweepInterval", "1h", DURATION, "how often old files are looked for")

    # Shared state
    redis_addr: str = row("RedisAddr", "", REDIS, "Redis for shared state; empty: none", secret=True)
    redis_password: str = row("RedisPassword", "", TEXT, "its password, where RedisAddr does not say", secret=True)
    redis_db: int = row("RedisDB", 0, integer(0, 1000000), "its database, where RedisAddr does not say")
    fallback_enabled: bool = row("FallbackEnabled", False, BOOLEAN, "an SQL server for shared state")
    fallback_db_type: str = row(
        "FallbackDBType",
        "postgres",
        choice("postgres", "mysql", postgresql="postgres", mariadb="mysql"),
        "kind of SQL server",
    )
    fallback_db_host: str = row("FallbackDBHost", "", DATABASE, "host, host:port or the path of a socket")
    fallback_db_user: str = row("FallbackDBUser", "", TEXT, "user")
    fallback_db_password: str = row("FallbackDBPassword", "", TEXT, "password", secret=True)
    fallback_db_name: str = row("FallbackDBName", "", TEXT, "database")
    max_retries: int = row("MaxRetries", 5, integer(0, 100), "repetitions after an error that may pass; 0: none")
    retry_delay: int = row("RetryDelay", 2, DURATION, "first delay between them, which doubles up to a minute")

    # Logs
    log_level: str = row("LogLevel", "info", LEVEL, "debug, info, warn or error")
    log_file: str = row("LogFile", "", PATH, "empty: standard output; reopened on SIGUSR1")
    log_format: str = row("LogFormat", "text", choice("text", "json"), "text, or one JSON object a line")
    audit_log: str = row("AuditLog", "", PATH, "file of one JSON line per change; empty: none")
    monitor_interval: int = row("MonitorInterval", "10s", DURATION, "time between two status lines; 0: none")
    gc_interval: int = row("GCInterval", "30s", DURATION, "time between two garbage collections; 0: not timed")


@cache
def keys() -> tuple[Key, ...]:
    """Every row of the table, in its order."""
    return tuple(Key(attribute=item.name, **item.metadata) for item in fields(Settings))


def operations_address(settings: Settings) -> Address | None:
    """Where metrics and health are served apart from the slots; None where they are not, or not apart."""
    return None if operations_on_main(settings) or not settings.metrics_enabled else settings.metrics_port


def operations_on_main(settings: Settings) -> bool:
    """Whether metrics and health are served on ListenPort."""
    return settings.metrics_enabled and settings.metrics_port in (None, settings.listen_port)


PUBLISHED_SECRETS = frozenset(
    ("stellar-wisdom-orbit-echo", "your-hmac-secret", "orbit7-shadow23-breeze91-echo17", "your-secret-key", "mysecret")
)
"""Example values of the old servers' READMEs: everybody knows them."""

LEAST_SECRET_BYTES = 16


def weakness(name: str, secret: str, *, allow_weak: bool) -> str:
    """What is wrong with a secret that anybody could guess, one sentence; empty where nothing is.

    Args:
        name: of the key that it comes from.
        allow_weak: AllowWeakSecret.
    """
    if allow_weak or (secret not in PUBLISHED_SECRETS and len(secret.encode()) >= LEAST_SECRET_BYTES):
        return ""
    return (
        f"{name} is a published example or shorter than {LEAST_SECRET_BYTES} bytes: anybody could sign uploads. "
        "Make one with `hmacfs secret --new` and put it here and in the XMPP server's configuration "
        "(AllowWeakSecret = true accepts it, for tests)."
    )


def _secret_problems(settings: Settings) -> list[str]:
    given = [("Secret", settings.secret), ("JWTSecret", settings.jwt_secret)]
    given += [("PreviousSecrets", each) for each in settings.previous_secrets]
    found = [weakness(name, each, allow_weak=settings.allow_weak_secret) for name, each in given if each]
    problems = [problem for problem in dict.fromkeys(found) if problem]
    if "" in settings.previous_secrets:
        problems.append("PreviousSecrets holds an empty text: remove it.")
    sources = {
        "Secret": settings.secret,
        "SecretFile": settings.secret_file,
        "SecretCommand": settings.secret_command,
    }
    if len(named := [name for name, value in sources.items() if value]) > 1:
        problems.append(f"{' and '.join(named)} are set together: keep one of them.")
    if settings.secret_command and not settings.secret_command[0]:
        problems.append("SecretCommand begins with an empty text: the first one names the program.")
    return problems


def _ban_problems(settings: Settings) -> list[str]:
    used = [("BlockDuration", settings.block_duration)]
    if settings.auto_unban:
        used.append(("AutoBanTime", settings.auto_ban_time))
    without = "Write how long a ban is to last, or BlockAfterFails = 0 for no bans"
    empty = [name for name, seconds in used if settings.block_after_fails and not seconds]
    return [f"{name} = 0 would ban nobody: such a ban is over as it begins. {without}." for name in empty]


def _operations_problems(settings: Settings) -> list[str]:
    main, other, prefix = settings.listen_port, operations_address(settings), settings.upload_sub_dir
    if operations_on_main(settings) and prefix in ("", "health"):
        return [
            f'MetricsPort puts /metrics and /health on ListenPort, where UploadSubDir = "{prefix}" makes them paths of '
            'slots. Write another address, such as MetricsPort = "127.0.0.1:9090", or another UploadSubDir.'
        ]
    if other is not None and not other.path and other.port == main.port and not (other.host and main.host):
        return [
            f"MetricsPort ({other}) and ListenPort ({main}) are one port on different addresses. Write another port, "
            'or MetricsPort = "" to serve both on ListenPort.'
        ]
    return []


def contradictions(settings: Settings, given: Collection[str] = ()) -> list[str]:
    """Problems between keys, one sentence each saying what to do; empty when there are none.

    Args:
        given: names of the keys that were set, as opposed to left at their defaults.
    """
    problems = []
    if settings.unix_socket and not settings.listen_port.path:
        problems.append(
            f'UnixSocket = true needs a path in ListenPort, but ListenPort is "{settings.listen_port}". '
            'Write ListenPort = "/run/hmacfs/hmacfs.sock", or UnixSocket = false.'
        )
    problems += _secret_problems(settings)
    problems += _operations_problems(settings)
    problems += _ban_problems(settings)
    if settings.require_signed_downloads and not settings.enable_v3:
        problems.append("RequireSignedDownloads needs EnableV3 = true: no other signature is for downloads.")
    if "BufferSize" in given and settings.buffer_size > settings.chunk_size:
        problems.append(
            f"BufferSize ({settings.buffer_size}) is larger than ChunkSize ({settings.chunk_size}): lower it."
        )
    if settings.max_bytes_per_second and settings.min_bytes_per_second > settings.max_bytes_per_second:
        problems.append("MinBytesPerSecond is above MaxBytesPerSecond: every upload would be cut. Lower it.")
    if settings.delete_files and not settings.delete_files_after_period:
        problems.append('DeleteFiles = true needs DeleteFilesAfterPeriod, such as "30d": every file would go at once.')
    if settings.retention_policy_enabled and not (settings.max_retention_time or settings.max_retention_size):
        problems.append("RetentionPolicyEnabled = true needs MaxRetentionTime or MaxRetentionSize: nothing would go.")
    named = (
        ("FallbackDBHost", settings.fallback_db_host),
        ("FallbackDBName", settings.fallback_db_name),
        ("FallbackDBUser", settings.fallback_db_user),
    )
    if settings.fallback_enabled and (missing := [name for name, value in named if not value]):
        problems.append(f"FallbackEnabled = true needs {' and '.join(missing)}: without them no SQL server is reached.")
    if settings.file_mode & 0o600 != 0o600 or settings.dir_mode & 0o700 != 0o700:
        problems.append("FileMode and DirMode must let the owner, this server, read and write: like 0640 and 0750.")
    if settings.direct_downloads.partition(":")[2].strip("/") == settings.upload_sub_dir and settings.direct_downloads:
        problems.append("DirectDownloads names the prefix of the slots: choose another one, such as /stored/.")
    if both := sorted(_bare(settings.allowed_extensions) & _bare(settings.blocked_extensions)):
        problems.append(
            f'AllowedExtensions and BlockedExtensions both name "{both[0]}", which is never accepted then: '
            "take it out of one of them."
        )
    if settings.user_quota and not (settings.quota_by_first_segment or settings.jwt_secret):
        problems.append(
            "UserQuota counts by uploader, and nothing tells who that is: set QuotaByFirstSegment = true where paths "
            "begin with the user, as ejabberd's do, or JWTSecret."
        )
    if settings.quota_by_first_segment and not settings.user_quota:
        problems.append("QuotaByFirstSegment says whose bytes are counted, but there is no limit: set UserQuota.")
    if "*" in settings.cors_origins and len(settings.cors_origins) > 1:
        problems.append(
            'CORSOrigins names "*" beside other origins: "*" allows every one already, so keep one or the other.'
        )
    return problems


def _bare(extensions: Collection[str]) -> set[str]:
    return {extension.removeprefix(".").lower() for extension in extensions}
