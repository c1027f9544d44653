"""One file and the environment to Settings: matching of keys, old files, problems told all at once, no secret shown."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs import configfile
from hmacfs.configfile import Loaded
from hmacfs.errors import ConfigError
from hmacfs.settings import Key, Settings, keys
from hmacfs.units import Address

SECRET = "a-secret-long-enough-for-anybody"

PROSODY_FILER = """
# The keys of prosody-filer.
listenPort = "127.0.0.1:5050"
unixSocket = false
secret = "a-secret-long-enough-for-anybody"
storeDir = "./upload/"
uploadSubDir = "upload/"
"""

GO_SERVER_3 = """
# Sections and lower-case keys, as the Go server 3.x reads them.
[server]
listen_address = "8080"
bind_ip = "127.0.0.1"
storage_path = "./uploads"
unixsocket = false
metricsenabled = true
metricsport = "9090"
max_upload_size = "10GB"
min_free_bytes = "100MB"
filettl = "30d"
deduplication_enabled = false

[uploads]
allowed_extensions = [".png", ".jpg"]
chunk_size = "10MB"
chunked_uploads_enabled = true
resumable_uploads_enabled = true
sessiontimeout = "60m"
maxretries = 3

[downloads]
allowed_extensions = [".zip"]
chunk_size = "5MB"
resumable_downloads_enabled = true

[security]
secret = "a-secret-long-enough-for-anybody"
jwtsecret = "another-secret-long-enough"

[logging]
level = "warn"
file = "./server.log"

[timeouts]
readtimeout = "4800s"
writetimeout = "4800s"

[versioning]
enableversioning = false
maxversions = 2

[redis]
redisaddr = "localhost:6379"
redispassword = ""
redisdbindex = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def load(file: Path, text: str, **environ: str) -> Loaded:
    file.write_text(text, encoding="utf-8")
    return configfile.load(str(file), environ)


def clean(file: Path, text: str, **environ: str) -> Settings:
    """The settings of a file that must be without fault."""
    loaded = load(file, text, **environ)
    assert loaded.errors == []
    assert loaded.warnings == []
    return loaded.settings


def test_an_empty_file_means_the_defaults(file: Path) -> None:
    settings = clean(file, "")

    for key in keys():
        if not key.kind.is_path:
            assert getattr(settings, key.attribute) == key.kind.parse(key.default)


@pytest.mark.parametrize(
    "spelling", ["UploadMaxSize", "uploadmaxsize", "UPLOAD_MAX_SIZE", "uploadMaxSize", "_u_ploadmaxsize"]
)
def test_a_key_matches_whatever_its_case_and_underscores(file: Path, spelling: str) -> None:
    assert clean(file, f"{spelling} = 5").upload_max_size == 5


@pytest.mark.parametrize("header", ["[server]", "[redis]", "[a.b.c]", "[Secret]"])
def test_a_table_header_is_ignored(file: Path, header: str) -> None:
    assert clean(file, f"{header}\nUploadMaxSize = 5").upload_max_size == 5


def test_blanks_mean_the_default(file: Path) -> None:
    loaded = load(file, 'UploadMaxSize = ""\nRedisDB = ""\nReadTimeout = ""\nNumCores = ""\nRedisAddr = ""')

    assert loaded.errors == []
    assert loaded.settings.upload_max_size == 1073741824
    assert loaded.settings.redis_db == 0
    assert loaded.settings.read_timeout == 900
    assert loaded.settings.num_cores is None


def test_a_configuration_of_prosody_filer_loads_as_it_is(file: Path) -> None:
    settings = clean(file, PROSODY_FILER)

    assert settings.listen_port == Address("127.0.0.1", 5050)
    assert settings.unix_socket is False
    assert settings.secret == SECRET
    assert settings.store_dir == str(file.parent / "upload")
    assert settings.upload_sub_dir == "upload"


def test_a_configuration_of_the_go_server_loads_as_it_is(file: Path) -> None:
    loaded = load(file, GO_SERVER_3)

    settings = loaded.settings
    assert loaded.errors == []
    assert settings.listen_port == Address("127.0.0.1", 8080)
    assert settings.store_dir == str(file.parent / "uploads")
    assert settings.metrics_port == Address("", 9090)
    assert settings.upload_max_size == 10 * 1024**3
    assert settings.min_free_space == 100 * 1024**2
    assert settings.file_ttl == 2592000
    assert settings.allowed_extensions == (".png", ".jpg")
    assert settings.chunk_size == 10 * 1024**2
    assert settings.session_ttl == 3600
    assert settings.max_retries == 3
    assert settings.secret == SECRET
    assert settings.jwt_secret == "another-secret-long-enough"
    assert settings.log_level == "warn"
    assert settings.log_file == str(file.parent / "server.log")
    assert settings.read_timeout == 4800
    assert settings.max_versions == 2
    assert settings.redis_addr == "localhost:6379"
    assert settings.redis_db == 3


def test_the_host_of_the_go_server_comes_with_a_word_where_to_write_it(file: Path) -> None:
    loaded = load(file, GO_SERVER_3)

    assert [warning for warning in loaded.warnings if "bind_ip" in warning and "ListenPort" in warning]


def test_the_host_of_the_go_server_does_not_override_a_host_of_ours(file: Path) -> None:
    loaded = load(file, 'ListenPort = "192.0.2.1:80"\nbind_ip = "127.0.0.1"')

    assert loaded.settings.listen_port == Address("192.0.2.1", 80)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("UploadMaxSiz", "UploadMaxSize"),
        ("UploadMaximumSize", "UploadMaxSize"),
        ("StoreDirectory", "StoreDir"),
        ("max_retry", "MaxRetries"),
        ("cors_origin", "CORSOrigins"),
        ("trustedproxy", "TrustedProxies"),
        ("Secrets", "Secret"),
    ],
)
def test_an_unknown_key_is_a_warning_that_names_the_nearest_one(file: Path, wrong: str, near: str) -> None:
    loaded = load(file, f'{wrong} = "x"')

    assert loaded.errors == []
    assert loaded.warnings == [f"{wrong} is not a key of this server. Did you mean {near}?"]


def test_an_unknown_key_that_is_near_to_nothing_gets_no_hint(file: Path) -> None:
    assert load(file, "quux = 1").warnings == ["quux is not a key of this server."]


def test_an_unknown_key_does_not_show_its_value(file: Path) -> None:
    loaded = load(file, f'Secret_Key = "{SECRET}"')

    assert SECRET not in "\n".join(loaded.warnings + loaded.errors)


def test_the_environment_overrides_the_file(file: Path) -> None:
    settings = clean(
        file,
        'StoreDir = "a"\nUploadMaxSize = 1\n',
        HMACFS_STOREDIR="/b",
        HMACFS_SECRET=SECRET,
        HMACFS_UPLOAD_MAX_SIZE="2K",
        HMACFS_UNIXSOCKET="false",
        HMACFS_TRUSTEDPROXIES="10.0.0.0/8,unix:",
        PATH="/bin",
    )

    assert settings.store_dir == "/b"
    assert settings.secret == SECRET
    assert settings.upload_max_size == 2048
    assert settings.trusted_proxies == ("10.0.0.0/8", "unix:")


@pytest.mark.parametrize("key", keys(), ids=lambda key: key.name)
def test_every_key_can_be_overridden_by_the_environment(file: Path, key: Key) -> None:
    default = ",".join(key.default) if isinstance(key.default, list) else str(key.default)

    loaded = load(file, "", **{f"HMACFS_{key.name.upper()}": default})

    assert loaded.errors == []
    assert loaded.sources == {key.name: "environment"}
    assert key.kind.is_path or getattr(loaded.settings, key.attribute) == key.kind.parse(key.default)


def test_an_unknown_variable_is_a_warning_with_its_whole_name(file: Path) -> None:
    assert load(file, "", HMACFS_SECRETT="x").warnings == [
        "HMACFS_SECRETT is not a key of this server. Did you mean Secret?"
    ]


def test_the_source_of_every_given_key_is_kept(file: Path) -> None:
    loaded = load(file, "UploadMaxSize = 5\nListenPort = 80", HMACFS_LISTENPORT="81")

    assert loaded.sources == {"UploadMaxSize": "file", "ListenPort": "environment"}


def test_the_file_can_be_named_by_the_environment(file: Path) -> None:
    file.write_text("UploadMaxSize = 5", encoding="utf-8")

    loaded = configfile.load(None, {"HMACFS_CONFIG": str(file)})

    assert loaded.path == str(file)
    assert loaded.warnings == []
    assert loaded.settings.upload_max_size == 5


def test_a_named_file_wins_over_the_environment(file: Path) -> None:
    assert clean(file, "UploadMaxSize = 5", HMACFS_CONFIG="/nonexistent").upload_max_size == 5


def test_without_a_name_the_file_is_config_toml_here(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("UploadMaxSize = 5", encoding="utf-8")
    monkeypatch.chdir(file.parent)

    loaded = configfile.load(None, {})

    assert loaded.path == str(file)
    assert loaded.settings.upload_max_size == 5


def test_relative_paths_are_relative_to_the_folder_of_the_file(
    file: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    settings = clean(file, 'StoreDir = "a/../b"\nLogFile = "./x.log"\nListenPort = "unix:run/x.sock"')

    assert settings.store_dir == str(file.parent / "b")
    assert settings.state_dir == str(file.parent / "data" / "state")
    assert settings.log_file == str(file.parent / "x.log")
    assert settings.listen_port == Address(path=str(file.parent / "run" / "x.sock"))


def test_a_relative_name_of_the_file_counts_from_here(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('StoreDir = "a"', encoding="utf-8")
    monkeypatch.chdir(file.parent.parent)

    loaded = configfile.load(f"{file.parent.name}/config.toml", {})

    assert loaded.settings.store_dir == str(file.parent / "a")


def test_absolute_and_empty_paths_stay_as_they_are(file: Path) -> None:
    settings = clean(file, 'StoreDir = "/srv/x"\nLogFile = ""')

    assert (settings.store_dir, settings.log_file) == ("/srv/x", "")


def test_a_wrong_value_names_the_key_the_value_and_what_is_allowed(file: Path) -> None:
    loaded = load(file, 'Durability = "maybe"')

    assert loaded.errors == ['Durability = \'maybe\' is not usable: it takes one of "full", "data", "none".']


def test_all_errors_are_told_at_once(file: Path) -> None:
    loaded = load(
        file,
        'Durability = "maybe"\nUploadMaxSize = "big"\nListenPort = "nowhere"\nFileMode = "x"\nUnixSocket = 5\n'
        'LogLevel = "loud"\nSecret = "short"\nCORSOrigins = ["*", "https://a.example"]',
    )

    text = "\n".join(loaded.errors)
    for name in (
        "Durability",
        "UploadMaxSize",
        "ListenPort",
        "FileMode",
        "UnixSocket",
        "LogLevel",
        "Secret",
        "CORSOrigins",
    ):
        assert name in text
    assert len(loaded.errors) == 8
    with pytest.raises(ConfigError) as caught:
        configfile.usable(loaded)
    assert len(caught.value.problems) == 8
    assert all(str(file) in problem for problem in caught.value.problems)


def test_settings_without_errors_are_usable(file: Path) -> None:
    loaded = load(file, "UploadMaxSize = 5")

    assert configfile.usable(loaded) is loaded.settings


def test_a_key_given_twice_with_different_values_is_an_error(file: Path) -> None:
    loaded = load(file, "[a]\nUploadMaxSize = 5\n[b]\nupload_max_size = 6")

    assert len(loaded.errors) == 1
    assert "UploadMaxSize is given twice" in loaded.errors[0]


def test_a_key_given_twice_with_one_value_is_no_error(file: Path) -> None:
    assert clean(file, "[a]\nUploadMaxSize = 5\n[b]\nupload_max_size = 5").upload_max_size == 5


@pytest.mark.parametrize(
    "text",
    [
        'Secret = ["hush-hush"]',
        "JWTSecret = ['hush-hush']",
        "[a]\nSecret = 'hush-hush-hush-hush-1'\n[b]\nsecret = 'hush-hush-hush-hush-2'",
        "Secret = 'hush-hush'",
        "RedisPassword = ['hush-hush']",
        "DeleteSecret = ['hush-hush']",
        "FallbackDBPassword = ['hush-hush']",
    ],
)
def test_a_secret_is_never_shown_in_a_problem(file: Path, text: str) -> None:
    loaded = load(file, text)

    assert loaded.errors != []
    assert "hush" not in "\n".join(loaded.errors + loaded.warnings)


def test_a_secret_of_the_environment_is_never_shown_in_a_problem(file: Path) -> None:
    loaded = load(file, "", HMACFS_SECRET="hush-hush")

    assert loaded.errors != []
    assert "hush" not in "\n".join(loaded.errors + loaded.warnings)


def test_the_repr_of_what_was_loaded_shows_no_secret(file: Path) -> None:
    loaded = load(file, f'Secret = "{SECRET}"\nJWTSecret = "{SECRET}"\nPreviousSecrets = ["{SECRET}"]')

    assert SECRET not in repr(loaded)


@pytest.mark.parametrize("key", [key for key in keys() if not key.works], ids=lambda key: key.name)
def test_a_key_without_effect_is_a_warning_when_it_is_set(file: Path, key: Key) -> None:
    default = ",".join(key.default) if isinstance(key.default, list) else str(key.default)

    loaded = load(file, "", **{f"HMACFS_{key.name.upper()}": default})

    assert loaded.warnings == [f"{key.name} has no effect in this version."]


def test_a_key_with_effect_is_no_warning(file: Path) -> None:
    loaded = load(file, "UploadMaxSize = 5\nDurability = 'none'\nNumCores = 2")

    assert (loaded.errors, loaded.warnings) == ([], [])


def test_a_missing_file_is_told_with_what_to_do(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        configfile.load(str(file), {})

    assert str(file) in str(caught.value)
    assert "does not exist" in str(caught.value)
    assert "--config" in str(caught.value)


def test_a_directory_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        configfile.load(str(tmp_path), {})


def test_a_file_that_is_not_text_is_told_as_one(file: Path) -> None:
    file.write_bytes(b"Secret = '\xff'")

    with pytest.raises(ConfigError, match="not UTF-8"):
        configfile.load(str(file), {})


@pytest.mark.parametrize("text", ["ListenPort", "ListenPort =", "= 5", "[server", 'StoreDir = "a', "a = 1\na = 2"])
def test_a_file_that_is_not_toml_is_told_as_one_with_its_line(file: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not valid TOML: .*(line|end of document)") as caught:
        load(file, text)

    assert len(caught.value.problems) == 1


@given(st.one_of(st.text(max_size=30), st.text(alphabet="abA=[]{}\"'#\n .,0:-_\\", max_size=25)))
def test_any_text_is_parsed_or_a_value_error(text: str) -> None:
    try:
        tables = configfile.parse_toml(text)
    except ValueError:
        return

    assert isinstance(tables, dict)


@pytest.mark.parametrize(
    "text",
    [
        'a = 1\n[security]\nsecret = "topsecret-topsecret"\n[security]\nx = 1\n',
        "Secret = 1234567890abcdefsecret\n",
        'Secret = "topsecret-topsecret\n',
        'Secret = "topsecret-topsecret"\nSecret = "topsecret-topsecret-2"\n',
    ],
)
def test_a_broken_file_is_described_without_quoting_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)

    with pytest.raises(ConfigError) as caught:
        configfile.load(str(path), {})

    assert "not valid TOML" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b'\xef\xbb\xbfUploadSubDir = "files"\n')

    loaded = configfile.load(str(path), {})

    assert loaded.settings.upload_sub_dir == "files"
    assert loaded.warnings == []


def test_level_and_file_mean_the_log_in_its_own_table_only(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[logging]\nlevel = "debug"\n[compression]\nlevel = 6\nfile = "x"\n')

    loaded = configfile.load(str(path), {})

    assert loaded.errors == []
    assert loaded.settings.log_level == "debug"
    assert loaded.settings.log_file == ""


def test_a_switch_of_the_go_server_that_is_off_takes_its_key_away(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[server]\nfilettl = "30d"\nfilettlenabled = false\n[redis]\nredisenabled = false\nredisaddr = "x:1"\n'
    )

    loaded = configfile.load(str(path), {})

    assert loaded.settings.file_ttl == 0
    assert loaded.settings.redis_addr == ""
    assert loaded.warnings == []


def test_a_socket_path_may_be_relative(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('UnixSocket = true\nListenPort = "run/hmacfs.sock"\n')

    loaded = configfile.load(str(path), {})

    assert loaded.errors == []
    assert loaded.settings.listen_port.path == str(tmp_path / "run/hmacfs.sock")


def test_an_octal_number_is_no_mode(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("FileMode = 0o640\n")

    assert "octal text" in configfile.load(str(path), {}).errors[0]


@pytest.mark.parametrize("text", ['StoreDir = ""', 'StoreDir = "a\\u0000b"', 'StateDir = ""'])
def test_a_folder_has_a_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)

    assert "the path of a folder" in configfile.load(str(path), {}).errors[0]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Secret = '''corr'ect#horse-battery'''", "corr'ect#horse-battery"),
        ('Secret = "\\"\\"a ]-and-some-more"', '""a ]-and-some-more'),
    ],
)
def test_a_text_is_read_as_toml_says_whatever_quotation_marks_it_holds(tmp_path: Path, text: str, secret: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)

    assert configfile.load(str(path), {}).settings.secret == secret


def test_a_word_for_true_is_for_the_environment_only(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('UnixSocket = "yes"\nListenPort = "x"\n')

    assert "UnixSocket" in configfile.load(str(path), {}).errors[0]
    path.write_text("")
    assert configfile.load(str(path), {"HMACFS_ALLOWWEAKSECRET": "yes"}).settings.allow_weak_secret


def test_a_socket_needs_no_slash_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('UnixSocket = true\nListenPort = "x.sock"\n')

    loaded = configfile.load(str(path), {})

    assert loaded.errors == []
    assert loaded.settings.listen_port.path == str(tmp_path / "x.sock")


def test_a_broken_value_is_told_once_and_not_by_what_its_default_contradicts(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("UnixSocket = true\nListenPort = 70000\n")

    assert len(configfile.load(str(path), {}).errors) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('CORSOrigins = ["https://a/"]', "web origins"),
        ('FileMode = "0040"', "FileMode"),
        ('DirectDownloads = "X-Accel-Redirect:/upload/"', "DirectDownloads"),
        ("MinBytesPerSecond = 2000\nMaxBytesPerSecond = 1000", "MinBytesPerSecond"),
        ("ReadTimeout = 0", "ReadTimeout"),
        ('UserQuota = "1GB"', "QuotaByFirstSegment"),
        ("QuotaByFirstSegment = true", "UserQuota"),
        ('AllowedExtensions = ["jpg"]\nBlockedExtensions = [".JPG"]', "AllowedExtensions"),
    ],
)
def test_a_value_that_cannot_take_effect_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)

    (problem,) = configfile.load(str(path), {}).errors
    assert expected in problem
