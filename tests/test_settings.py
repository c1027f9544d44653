"""The table of keys: every kind reads what the documentation allows and refuses the rest."""

from typing import Any

import pytest

from hmacfs import settings
from hmacfs.settings import Key, Settings, keys
from hmacfs.units import Address

KEYS = {key.name: key for key in keys()}
SPECIFIED = """
ListenPort UnixSocket Secret StoreDir UploadSubDir LogLevel LogFile MaxRetries RetryDelay EnableGetRetries
MetricsEnabled MetricsPort ChunkingEnabled ChunkSize BufferSize UploadMaxSize MaxBytesPerSecond RedisAddr
RedisPassword RedisDB FallbackEnabled FallbackDBType FallbackDBHost FallbackDBUser FallbackDBPassword
FallbackDBName ResumableUploadsEnabled EnableVersioning MaxVersions FileTTL DeleteFiles DeleteFilesAfterPeriod
RetentionPolicyEnabled MaxRetentionTime MaxRetentionSize BlockAfterFails BlockDuration AutoUnban AutoBanTime
ReaskSecretEnabled ReaskSecretInterval ChecksumVerification ReadTimeout WriteTimeout GracefulShutdownTimeout
NumCores MaxWorkers MaxMemoryMB StateDir BaseURL FileMode DirMode UnixSocketMode UnixSocketGroup HeadTimeout
MaxSessionsPerSlot VersionsPerDay NeverBan QuotaByFirstSegment DeduplicationEnabled AuditLog FastLane SecretFile
SecretCommand SecretGrace PreviousSecrets AllowWeakSecret TrustedProxies Durability MinFreeSpace DirectDownloads
RequireSignedDownloads EnableV3 DeleteSecret JWTSecret ContentTypeFromExtension EnableInterimResponses SessionTTL
CORSOrigins MinBytesPerSecond MaxUploadsPerClient RequestRateLimit UserQuota AllowedExtensions BlockedExtensions
BlockedTypes SweepInterval MonitorInterval GCInterval LogFormat
"""
DEFAULTS = {
    "ListenPort": ":8080",
    "UnixSocket": False,
    "Secret": "",
    "StoreDir": "./data/store",
    "UploadSubDir": "upload",
    "LogLevel": "info",
    "LogFile": "",
    "MaxRetries": 5,
    "RetryDelay": 2,
    "EnableGetRetries": True,
    "MetricsEnabled": True,
    "MetricsPort": "127.0.0.1:9090",
    "ChunkingEnabled": True,
    "ChunkSize": 1048576,
    "BufferSize": 65536,
    "UploadMaxSize": 1073741824,
    "MaxBytesPerSecond": 0,
    "RedisAddr": "",
    "RedisDB": 0,
    "FallbackEnabled": False,
    "FallbackDBType": "postgres",
    "ResumableUploadsEnabled": True,
    "EnableVersioning": False,
    "MaxVersions": 5,
    "DeleteFiles": False,
    "RetentionPolicyEnabled": False,
    "BlockAfterFails": 10,
    "BlockDuration": 300,
    "AutoUnban": True,
    "AutoBanTime": 600,
    "ReaskSecretEnabled": False,
    "ReaskSecretInterval": "24h",
    "ChecksumVerification": True,
    "ReadTimeout": 900,
    "WriteTimeout": 900,
    "GracefulShutdownTimeout": 30,
    "NumCores": "auto",
    "MaxWorkers": "auto",
    "MaxMemoryMB": 0,
    "StateDir": "./data/state",
    "BaseURL": "",
    "FileMode": "0640",
    "DirMode": "0750",
    "UnixSocketMode": "0660",
    "UnixSocketGroup": "",
    "HeadTimeout": "10s",
    "MaxSessionsPerSlot": 4,
    "VersionsPerDay": 10,
    "NeverBan": [],
    "QuotaByFirstSegment": False,
    "DeduplicationEnabled": False,
    "AuditLog": "",
    "FastLane": True,
    "SecretFile": "",
    "SecretCommand": [],
    "SecretGrace": "24h",
    "PreviousSecrets": [],
    "AllowWeakSecret": False,
    "TrustedProxies": ["127.0.0.1", "::1", "unix:"],
    "Durability": "full",
    "MinFreeSpace": "256MiB",
    "DirectDownloads": "",
    "RequireSignedDownloads": False,
    "SessionTTL": "24h",
    "CORSOrigins": ["*"],
    "MinBytesPerSecond": 0,
    "MaxUploadsPerClient": 0,
    "RequestRateLimit": "",
    "UserQuota": 0,
    "AllowedExtensions": [],
    "BlockedExtensions": [],
    "BlockedTypes": [],
    "SweepInterval": "1h",
    "MonitorInterval": "10s",
    "GCInterval": "30s",
    "LogFormat": "text",
}
"""As the configuration page states them."""


def test_the_table_holds_every_specified_key_and_no_other() -> None:
    assert sorted(KEYS) == sorted(SPECIFIED.split())


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_means_what_the_specification_says(name: str) -> None:
    key = KEYS[name]

    assert key.kind.parse(key.default) == key.kind.parse(DEFAULTS[name])


@pytest.mark.parametrize("key", keys(), ids=lambda key: key.name)
def test_a_key_explains_itself_and_its_default_is_usable(key: Key) -> None:
    assert key.meaning
    assert key.kind.form
    assert getattr(Settings(), key.attribute) == key.kind.parse(key.default)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        # text and path
        ("UnixSocketGroup", "www-data", "www-data"),
        ("StoreDir", "/srv/files", "/srv/files"),
        ("LogFile", "", ""),
        # boolean
        ("UnixSocket", True, True),
        ("UnixSocket", "true", True),
        ("UnixSocket", "FALSE", False),
        ("UnixSocket", "1", True),
        ("UnixSocket", "off", False),
        # whole number
        ("MaxSessionsPerSlot", 1, 1),
        ("MaxSessionsPerSlot", "1000", 1000),
        ("MaxSessionsPerSlot", " 7 ", 7),
        # "auto" or a number
        ("NumCores", "auto", None),
        ("NumCores", "AUTO", None),
        ("NumCores", 4, 4),
        ("NumCores", "4", 4),
        # duration
        ("GracefulShutdownTimeout", 45, 45),
        ("GracefulShutdownTimeout", "45", 45),
        ("GracefulShutdownTimeout", "1h30m", 5400),
        ("FileTTL", "30d", 2592000),
        # size
        ("UploadMaxSize", 0, 0),
        ("UploadMaxSize", 5, 5),
        ("UploadMaxSize", "10GB", 10 * 1024**3),
        ("UploadMaxSize", "1.5G", 1610612736),
        ("ChunkSize", 4096, 4096),
        ("ChunkSize", "16MiB", 16777216),
        # mode
        ("FileMode", "0644", 0o644),
        ("FileMode", "644", 0o644),
        # address
        ("ListenPort", ":8080", Address("", 8080)),
        ("ListenPort", 8080, Address("", 8080)),
        ("ListenPort", "8080", Address("", 8080)),
        ("ListenPort", "[::1]:8080", Address("::1", 8080)),
        ("ListenPort", "unix:/run/x", Address(path="/run/x")),
        ("MetricsPort", "", None),
        ("MetricsPort", ":9090", Address("", 9090)),
        # lists
        ("CORSOrigins", ["https://a.example"], ("https://a.example",)),
        ("CORSOrigins", [], ()),
        ("CORSOrigins", "https://a.example, https://b.example", ("https://a.example", "https://b.example")),
        ("TrustedProxies", ["10.0.0.0/8", "unix:", "::1"], ("10.0.0.0/8", "unix:", "::1")),
        ("TrustedProxies", "", ()),
        ("AllowedExtensions", ["jpg", ".MP4", "tar.gz", ""], ("jpg", ".MP4", "tar.gz", "")),
        ("BlockedExtensions", "exe, .php", ("exe", ".php")),
        ("BlockedTypes", ["text/html", "Image/*", "image/svg+xml"], ("text/html", "Image/*", "image/svg+xml")),
        # choices
        ("LogLevel", "warning", "warn"),
        ("LogLevel", "DEBUG", "debug"),
        ("Durability", "None", "none"),
        ("FallbackDBType", "mariadb", "mysql"),
        ("FallbackDBType", "postgresql", "postgres"),
        # prefix
        ("UploadSubDir", "upload/", "upload"),
        ("UploadSubDir", "/upload/", "upload"),
        ("UploadSubDir", "/", ""),
        ("UploadSubDir", "", ""),
        ("UploadSubDir", "a//b/", "a/b"),
        # URL, rate, offload
        ("BaseURL", "https://upload.example.org", "https://upload.example.org"),
        ("BaseURL", "http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("RequestRateLimit", "120/minute", "120/minute"),
        ("DirectDownloads", "X-Sendfile", "X-Sendfile"),
        ("DirectDownloads", "X-Accel-Redirect:/prefix/", "X-Accel-Redirect:/prefix/"),
    ],
)
def test_a_kind_reads_what_is_allowed(name: str, given: Any, expected: Any) -> None:
    assert KEYS[name].kind.parse(given) == expected


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("Secret", 5),
        ("Secret", ["a"]),
        ("StoreDir", True),
        ("UnixSocket", 1),
        ("UnixSocket", "perhaps"),
        ("UnixSocket", []),
        ("MaxSessionsPerSlot", 0),
        ("MaxSessionsPerSlot", 1001),
        ("MaxSessionsPerSlot", True),
        ("MaxSessionsPerSlot", 1.5),
        ("MaxSessionsPerSlot", "many"),
        ("MaxSessionsPerSlot", "9" * 40),
        ("MaxVersions", -1),
        ("NumCores", 0),
        ("NumCores", "many"),
        ("NumCores", False),
        ("GracefulShutdownTimeout", -1),
        ("GracefulShutdownTimeout", 1.5),
        ("GracefulShutdownTimeout", "soon"),
        ("UploadMaxSize", -1),
        ("UploadMaxSize", "big"),
        ("UploadMaxSize", True),
        ("UploadMaxSize", "99999999T"),
        ("ChunkSize", 4095),
        ("ChunkSize", 16777217),
        ("FileMode", "rw-r-----"),
        ("FileMode", "0888"),
        ("ListenPort", "upload.example.org"),
        ("ListenPort", ":99999"),
        ("ListenPort", 0),
        ("ListenPort", ""),
        ("CORSOrigins", [1]),
        ("CORSOrigins", 5),
        ("TrustedProxies", ["example.org"]),
        ("TrustedProxies", ["10.0.0.0/99"]),
        ("AllowedExtensions", ["*.jpg"]),
        ("AllowedExtensions", ["a b"]),
        ("BlockedExtensions", ["..exe"]),
        ("BlockedExtensions", ["exe."]),
        ("BlockedExtensions", ["x/y"]),
        ("BlockedTypes", ["html"]),
        ("BlockedTypes", ["text/html; charset=utf-8"]),
        ("BlockedTypes", ["*/*"]),
        ("BlockedTypes", ["text/ht*"]),
        ("BlockedTypes", [""]),
        ("LogLevel", "loud"),
        ("LogLevel", 3),
        ("Durability", ""),
        ("FallbackDBType", "sqlite"),
        ("UploadSubDir", "../x"),
        ("UploadSubDir", "a b"),
        ("UploadSubDir", "ä"),
        ("BaseURL", "upload.example.org"),
        ("BaseURL", "ftp://upload.example.org"),
        ("BaseURL", "https://upload.example.org/?a=b"),
        ("RequestRateLimit", "often"),
        ("RequestRateLimit", "0/minute"),
        ("RequestRateLimit", "1000000000/minute"),
        ("SessionTTL", 0),
        ("SessionTTL", "0"),
        ("SessionTTL", "10000000w"),
        ("FileTTL", "101y"),
        ("RequestRateLimit", "1/fortnight"),
        ("DirectDownloads", "X-Accel-Redirect"),
        ("DirectDownloads", "nginx"),
    ],
)
def test_a_kind_refuses_everything_else(name: str, given: Any) -> None:
    with pytest.raises((ValueError, KeyError)):
        KEYS[name].kind.parse(given)


def test_numbers_and_durations_take_a_blank_for_their_default() -> None:
    numeric = [key for key in keys() if isinstance(key.default, int) and not isinstance(key.default, bool)]

    assert len(numeric) > 20
    assert [key.name for key in numeric if not key.kind.blank_is_default] == []
    assert all(key.kind.blank_is_default for key in keys() if key.kind is settings.DURATION)


def test_every_key_that_holds_a_secret_is_marked_so() -> None:
    marked = {key.name for key in keys() if key.secret}

    assert marked >= {
        "Secret",
        "PreviousSecrets",
        "JWTSecret",
        "DeleteSecret",
        "RedisPassword",
        "FallbackDBPassword",
    }


def test_the_repr_of_settings_shows_no_secret() -> None:
    shown = repr(
        Settings(
            secret="hush-1",
            previous_secrets=("hush-2",),
            jwt_secret="hush-3",
            delete_secret="hush-4",
            redis_password="hush-5",
            fallback_db_password="hush-6",
        )
    )

    assert "hush" not in shown
    assert "listen_port" in shown


def test_the_defaults_do_not_contradict_each_other() -> None:
    assert settings.contradictions(Settings()) == []


def one_problem(**changed: Any) -> str:
    problems = settings.contradictions(Settings(**changed), given=["BufferSize"])
    assert len(problems) == 1
    return problems[0]


def test_a_unix_socket_needs_a_path() -> None:
    problem = one_problem(unix_socket=True)

    assert "UnixSocket = true" in problem
    assert "ListenPort" in problem
    assert settings.contradictions(Settings(unix_socket=True, listen_port=Address(path="/run/x"))) == []


@pytest.mark.parametrize(
    "secret",
    [
        "stellar-wisdom-orbit-echo",
        "your-hmac-secret",
        "orbit7-shadow23-breeze91-echo17",
        "your-secret-key",
        "mysecret",
        "x",
        "fifteen-bytes-x",
    ],
)
def test_a_published_or_short_secret_is_refused_without_being_shown(secret: str) -> None:
    problem = one_problem(secret=secret)

    assert len(secret) < 2 or secret not in problem
    assert "Secret" in problem
    assert "AllowWeakSecret" in problem
    assert "hmacfs secret --new" in problem
    assert settings.contradictions(Settings(secret=secret, allow_weak_secret=True)) == []


@pytest.mark.parametrize("secret", ["", "sixteen-bytes-ok", "ä" * 8])
def test_a_secret_of_sixteen_bytes_or_none_at_all_is_accepted(secret: str) -> None:
    assert settings.contradictions(Settings(secret=secret)) == []


def test_a_buffer_larger_than_a_chunk_is_refused() -> None:
    problem = one_problem(buffer_size=2097152)

    assert "BufferSize" in problem
    assert "ChunkSize" in problem


def test_a_small_chunk_lowers_a_buffer_that_was_not_given() -> None:
    assert settings.contradictions(Settings(chunk_size=4096)) == []


def test_two_sources_of_the_secret_are_refused() -> None:
    assert "SecretFile" in one_problem(secret="sixteen-bytes-ok", secret_file="/etc/secret")


def test_delete_files_needs_a_period() -> None:
    assert "DeleteFilesAfterPeriod" in one_problem(delete_files=True, delete_files_after_period=0)
    assert settings.contradictions(Settings(delete_files=True)) == []


def test_a_ban_of_no_length_is_refused_where_there_are_bans() -> None:
    first, later = one_problem(block_duration=0), one_problem(auto_ban_time=0)

    assert first.startswith("BlockDuration = 0 would ban nobody")
    assert later.startswith("AutoBanTime = 0 would ban nobody")
    assert all("BlockAfterFails = 0" in problem for problem in (first, later))
    assert settings.contradictions(Settings(block_after_fails=0, block_duration=0, auto_ban_time=0)) == []
    assert settings.contradictions(Settings(auto_unban=False, auto_ban_time=0)) == []


def test_a_retention_policy_needs_a_limit() -> None:
    problem = one_problem(retention_policy_enabled=True)

    assert "MaxRetentionTime" in problem
    assert "MaxRetentionSize" in problem
    assert settings.contradictions(Settings(retention_policy_enabled=True, max_retention_size=1)) == []
    assert settings.contradictions(Settings(retention_policy_enabled=True, max_retention_time=1)) == []


def test_signed_downloads_need_a_signature_for_downloads() -> None:
    assert "EnableV3" in one_problem(require_signed_downloads=True)


def test_an_address_of_redis_may_hold_a_password_and_is_never_shown() -> None:
    assert "hunter2" not in repr(Settings(redis_addr="redis://:hunter2@localhost:6379"))


def test_every_origin_beside_named_origins_is_refused() -> None:
    assert "CORSOrigins" in one_problem(cors_origins=("*", "https://a.example"))


def test_all_contradictions_are_told_at_once() -> None:
    problems = settings.contradictions(Settings(unix_socket=True, secret="short", cors_origins=("*", "a")))

    assert len(problems) == 3


def test_a_database_is_needed_only_where_it_is_enabled() -> None:
    assert settings.contradictions(Settings(fallback_enabled=False)) == []
    (problem,) = settings.contradictions(Settings(fallback_enabled=True))

    for name in ("FallbackDBHost", "FallbackDBName", "FallbackDBUser"):
        assert name in problem


@pytest.mark.parametrize("value", ["host:x", "redis://host:port", "ftp://host", "unix:path", "two words", 6379, True])
def test_a_redis_address_is_read_before_anybody_connects(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - a kind tells no more
        KEYS["RedisAddr"].kind.parse(value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"secret": "sixteen-bytes-ok", "secret_command": ("echo",)}, ("Secret", "SecretCommand")),
        ({"secret_file": "/a", "secret_command": ("echo",)}, ("SecretFile", "SecretCommand")),
        (
            {"secret": "sixteen-bytes-ok", "secret_file": "/a", "secret_command": ("echo",)},
            ("Secret", "SecretFile", "SecretCommand"),
        ),
    ],
)
def test_the_secret_has_one_source(given: dict[str, Any], named: tuple[str, ...]) -> None:
    problem = one_problem(**given)

    assert all(name in problem for name in named)
    assert "keep one" in problem


@pytest.mark.parametrize("given", [{"jwt_secret": "hush"}, {"previous_secrets": ("hush", "hush-too")}])
def test_a_weak_secret_of_another_key_is_refused_without_being_shown(given: dict[str, Any]) -> None:
    problem = one_problem(**given)

    assert "hush" not in problem
    assert "AllowWeakSecret" in problem
    assert settings.contradictions(Settings(allow_weak_secret=True, **given)) == []


@pytest.mark.parametrize("given", [{"previous_secrets": ("",)}, {"secret_command": ("",)}])
def test_an_empty_text_stands_for_nothing(given: dict[str, Any]) -> None:
    assert "empty text" in one_problem(allow_weak_secret=True, **given)


def test_every_duration_leads_to_a_moment_that_is_a_date() -> None:
    durations = [key for key in keys() if key.kind in (settings.DURATION, settings.TIMEOUT)]

    assert len(durations) > 15
    for key in durations:
        assert key.kind.parse("100y") == 100 * 365 * 86400
        with pytest.raises(ValueError, match=r"^$"):
            key.kind.parse(100 * 365 * 86400 + 1)
