"""One TOML file and the environment to Settings, with every problem reported at once.

Keys match regardless of case and underscores, and table headers are ignored, so that files of prosody-filer and of the
Go server load as they are.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hmacfs.errors import ConfigError
from hmacfs.kinds import BOOLEAN
from hmacfs.settings import Key, Settings, contradictions, keys
from hmacfs.units import Address

DEFAULT_PATH = "./config.toml"
ENVIRONMENT_PREFIX = "HMACFS_"

ALIASES = {
    "listenaddress": "listenport",
    "storagepath": "storedir",
    "maxuploadsize": "uploadmaxsize",
    "minfreebytes": "minfreespace",
    "redisdbindex": "redisdb",
    "chunkeduploadsenabled": "chunkingenabled",
    "resumableuploadsenabled": "resumableuploadsenabled",
    "sessiontimeout": "sessionttl",
    "logging.level": "loglevel",
    "logging.file": "logfile",
    "deduplication.enabled": "deduplicationenabled",
}
"""Names of the Go server 3.x that mean one of our keys, in normal form; with a table where only that table's does."""

SWITCHES = {"filettlenabled": "FileTTL", "redisenabled": "RedisAddr", "enablejwt": "JWTSecret"}
"""Switches of the Go server 3.x: false there means that the other key has no effect, whatever its value."""

IGNORED_TABLES = frozenset(("downloads",))
"""Tables of the Go server 3.x whose keys would collide with ours and never had an effect there."""


@dataclass
class Loaded:
    """What a load found: the settings, where each given key came from, and the problems.

    ``errors`` stop everything; ``warnings`` (unknown or not yet effective keys) stop ``hmacfs check`` only.
    """

    settings: Settings
    path: str
    sources: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    """Keys whose value could not be read: what their defaults contradict is of no interest."""


def normal(name: str) -> str:
    return name.replace("_", "").lower()


def parse_toml(text: str) -> dict[str, Any]:
    """The only place that reads TOML.

    The standard library's reader, because toml 0.10 misreads some valid files without a word: it drops a key whose
    multi-line text holds quotation marks, and takes a file that ends within an array for a good one.

    Raises:
        ValueError: with the place of the fault and nothing that could be a secret.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(str(error)) from None


def read(path: str) -> dict[str, Any]:
    """The tables of the file at ``path``. Raises ConfigError with one line that says what to do."""
    shown = os.path.abspath(path)
    try:
        with open(path, encoding="utf-8-sig") as file:
            return parse_toml(file.read())
    except FileNotFoundError:
        problem = f"{shown} does not exist. Name your configuration with --config PATH, or copy config.toml there."
    except IsADirectoryError:
        problem = f"{shown} is a directory. Name the configuration file itself with --config PATH."
    except PermissionError:
        problem = f"{shown} may not be read by this user. Check its owner and permissions."
    except UnicodeDecodeError:
        problem = f"{shown} is not UTF-8 text. Save it as UTF-8."
    except OSError as error:
        problem = f"{shown} cannot be read: {error.strerror}."
    except ValueError as error:
        problem = f"{shown} is not valid TOML: {error}. Texts stand in quotation marks, and a table or key stands once."
    raise ConfigError([problem])


def load(path: str | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Settings from the file at ``path`` (or HMACFS_CONFIG, or ./config.toml) and the environment.

    Raises:
        ConfigError: the file cannot be read as TOML. Problems with keys are in the answer instead, all of them.
    """
    path = path or environ.get(f"{ENVIRONMENT_PREFIX}CONFIG") or DEFAULT_PATH
    loaded = Loaded(Settings(), os.path.abspath(path))
    raw: dict[str, Any] = {}
    tables = read(path)
    given = (*_flatten(tables), *_from_environment(environ))
    switched_off = {
        SWITCHES[normal(name)] for _, _, name, value in given if normal(name) in SWITCHES and value is False
    }
    for source, table, name, value in given:
        key = _find(table, name)
        if normal(name) in SWITCHES or (key is not None and key.name in switched_off):
            continue
        if key is None:
            loaded.warnings.append(_unknown(name, source))
        elif key.name in raw and loaded.sources[key.name] != "environment" != source and raw[key.name] != value:
            loaded.errors.append(f"{key.name} is given twice with different values in {path}: keep one.")
        else:
            raw[key.name] = value
            loaded.sources[key.name] = source
    values = _values(raw, loaded)
    bind_ip = next((v for _, _, n, v in _flatten(tables) if normal(n) == "bindip" and isinstance(v, str)), "")
    if bind_ip and not values["listen_port"].host and not values["listen_port"].path:
        values["listen_port"] = Address(bind_ip, values["listen_port"].port)
    loaded.settings = replace(Settings(), **_absolute(values, os.path.dirname(loaded.path)))
    found = contradictions(loaded.settings, loaded.sources)
    loaded.errors.extend(problem for problem in found if not any(name in problem for name in loaded.broken))
    return loaded


def usable(loaded: Loaded) -> Settings:
    """The settings, or ConfigError naming every error in them."""
    if loaded.errors:
        raise ConfigError([f"{loaded.path}: {error}" for error in loaded.errors])
    return loaded.settings


def _flatten(tables: Mapping[str, Any], table: str = "") -> Iterator[tuple[str, str, str, Any]]:
    """Source, table, name and value of every entry."""
    for name, value in tables.items():
        if isinstance(value, dict):
            if name.lower() not in IGNORED_TABLES:
                yield from _flatten(value, name.lower())
        else:
            yield "file", table, name, value


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    for name, value in environ.items():
        if name.startswith(ENVIRONMENT_PREFIX) and name != f"{ENVIRONMENT_PREFIX}CONFIG":
            yield "environment", "", name[len(ENVIRONMENT_PREFIX) :], value


def _find(table: str, name: str) -> Key | None:
    plain = normal(name)
    wanted = ALIASES.get(f"{table}.{plain}", ALIASES.get(plain, plain))
    return next((key for key in keys() if normal(key.name) == wanted), None)


def _unknown(name: str, source: str) -> str:
    if normal(name) == "bindip":
        return "bind_ip belongs to the Go server: it is taken as the host of ListenPort. Write it there."
    shown = ENVIRONMENT_PREFIX + name if source == "environment" else name
    by_normal = {normal(key.name): key.name for key in keys()}
    near = difflib.get_close_matches(normal(name), by_normal, n=1, cutoff=0.7)
    hint = f" Did you mean {by_normal[near[0]]}?" if near else ""
    return f"{shown} is not a key of this server.{hint}"


def _values(raw: Mapping[str, Any], loaded: Loaded) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key in keys():
        value = _as_meant(key, raw)
        if key.kind.blank_is_default and value == "":
            value = key.default
        try:
            if key.kind is BOOLEAN and not isinstance(value, bool) and loaded.sources.get(key.name) == "file":
                raise ValueError
            values[key.attribute] = key.kind.parse(value)
        except (ValueError, KeyError):
            loaded.broken.add(key.name)
            shown = "(hidden)" if key.secret else repr(value)
            loaded.errors.append(f"{key.name} = {shown} is not usable: it takes {key.kind.form}.")
            values[key.attribute] = key.kind.parse(key.default)
        if key.name in raw and not key.works:
            loaded.warnings.append(f"{key.name} has no effect in this version.")
    return values


def _as_meant(key: Key, raw: Mapping[str, Any]) -> Any:
    """The value as it was given; with UnixSocket = true a ListenPort without a port is a path, however it looks."""
    value = raw.get(key.name, key.default)
    is_socket = key.name == "ListenPort" and str(raw.get("UnixSocket")).lower() in ("true", "1", "yes", "on")
    if is_socket and isinstance(value, str) and value and not re.fullmatch(r"(.*:)?\d+", value):
        return f"unix:{value.removeprefix('unix:')}"
    return value


def _absolute(values: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Relative paths are relative to the folder of the config file, wherever the server was started from."""
    result = dict(values)
    for key in keys():
        value = values[key.attribute]
        if key.kind.is_path and value:
            result[key.attribute] = os.path.normpath(os.path.join(folder, value))
        elif isinstance(value, Address) and value.path:
            result[key.attribute] = Address(path=os.path.normpath(os.path.join(folder, value.path)))
    return result
