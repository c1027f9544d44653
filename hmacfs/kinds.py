"""How each sort of value in a configuration file is read, from TOML's types and from the texts of the environment."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from hmacfs.state.addresses import DATABASE_FORM, REDIS_FORM, parse_redis, parse_server
from hmacfs.units import (
    ADDRESS_FORM,
    DURATION_FORM,
    SIZE_FORM,
    Address,
    parse_address,
    parse_duration,
    parse_mode,
    parse_size,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """How one sort of value is read. ``parse`` raises ValueError when the value is not of the ``form``."""

    form: str
    parse: Callable[[Any], T]
    blank_is_default: bool = False
    is_path: bool = False


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _boolean(value: Any) -> bool:
    words = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "on": True, "off": False}
    if isinstance(value, bool):
        return value
    return words[_text(value).strip().lower()]


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return str(value)


def integer(low: int, high: int) -> Kind[int]:
    def parse(value: Any) -> int:
        text = _number(value).strip()
        if not re.fullmatch(r"-?\d{1,19}", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return Kind(f"a whole number from {low} to {high}", parse, blank_is_default=True)


def size(low: int = 0, high: int = 2**62) -> Kind[int]:
    def parse(value: Any) -> int:
        count = parse_size(_number(value))
        if not low <= count <= high:
            raise ValueError
        return count

    bounds = f", from {low} to {high}" if (low, high) != (0, 2**62) else ""
    return Kind(SIZE_FORM + bounds, parse, blank_is_default=True)


def auto_or_integer(low: int, high: int) -> Kind[int | None]:
    number = integer(low, high)

    def parse(value: Any) -> int | None:
        if isinstance(value, str) and value.strip().lower() == "auto":
            return None
        return number.parse(value)

    return Kind(f'"auto" or {number.form}', parse, blank_is_default=True)


def choice(*allowed: str, **aliases: str) -> Kind[str]:
    def parse(value: Any) -> str:
        text = _text(value).strip().lower()
        text = aliases.get(text, text)
        if text not in allowed:
            raise ValueError
        return text

    return Kind("one of " + ", ".join(f'"{word}"' for word in allowed), parse)


def _matching(pattern: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if not re.fullmatch(pattern, _text(value)):
            raise ValueError
        return cast(str, value)

    return parse


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):  # from the environment: one line, commas between
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ValueError
    return tuple(value)


def _all_matching(pattern: str) -> Callable[[Any], tuple[str, ...]]:
    def parse(value: Any) -> tuple[str, ...]:
        parts = _texts(value)
        if not all(re.fullmatch(pattern, part) for part in parts):
            raise ValueError
        return parts

    return parse


def _origins(value: Any) -> tuple[str, ...]:
    origins = _texts(value)
    if not all(re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^/\s]+", origin) for origin in origins):
        raise ValueError
    return origins


_LONGEST_SECONDS = 100 * 365 * 86400
"""Of any duration: every moment that follows from one is a date that headers and databases can hold."""


def _duration(value: Any, least: int = 0) -> int:
    if not least <= (seconds := parse_duration(_number(value))) <= _LONGEST_SECONDS:
        raise ValueError
    return seconds


def _networks(value: Any) -> tuple[str, ...]:
    for part in (parts := _texts(value)):
        if part != "unix:":
            ipaddress.ip_network(part, strict=False)
    return parts


def _address(value: Any) -> Address:
    return parse_address(_number(value))


def _redis(value: Any) -> str:
    text = _text(value).strip()
    if text:
        parse_redis(text)
    return text


def _database(value: Any) -> str:
    text = _text(value).strip()
    if text:
        parse_server(text, 1)
    return text


def _prefix(value: Any) -> str:
    segments = [segment for segment in _text(value).split("/") if segment]
    if any(s in (".", "..") or not re.fullmatch(r"[A-Za-z0-9._~-]+", s) for s in segments):
        raise ValueError
    return "/".join(segments)


TEXT = Kind("a text", _text)
PATH = Kind("a path", _matching(r"[^\0]*"), is_path=True)
DIRECTORY = Kind("the path of a folder", _matching(r"[^\0]+"), is_path=True)
BOOLEAN = Kind("true or false", _boolean)
DURATION = Kind(f"{DURATION_FORM}, at most 100 years", _duration, blank_is_default=True)
TIMEOUT = Kind(f"more than 0 {DURATION.form}", lambda value: _duration(value, 1), blank_is_default=True)
SIZE = size()
MODE = Kind('an octal text like "0640"', lambda value: parse_mode(_text(value)))
REDIS = Kind(f'"" or {REDIS_FORM}', _redis)
DATABASE = Kind(f'"" or {DATABASE_FORM}', _database)
ADDRESS = Kind(ADDRESS_FORM, _address)
ADDRESS_OR_NONE: Kind[Address | None] = Kind(f'"" or {ADDRESS_FORM}', lambda v: None if v == "" else _address(v))


ORIGINS = Kind('a list of web origins like "https://chat.example.org", or ["*"]', _origins)
TEXTS = Kind("a list of texts", _texts)
EXTENSIONS = Kind(
    'a list of file extensions like "exe" or ".tar.gz" ("" is no extension)',
    _all_matching(r"(\.?[^\s./*?]+(\.[^\s./*?]+)*)?"),
)
TYPE_PATTERNS = Kind(
    'a list of content types like "text/html" or "image/*"',
    _all_matching(r"[A-Za-z0-9!#$&^_.+-]+/([A-Za-z0-9!#$&^_.+-]+|\*)"),
)
NETWORKS = Kind('a list of addresses, networks and "unix:"', _networks)
PREFIX = Kind('URL path segments like "upload", of letters, digits and . _ ~ -', _prefix)
BASE_URL = Kind('"" or a URL like "https://upload.example.org"', _matching(r"(https?://[^/?#\s]+[^?#\s]*)?"))
RATE = Kind('"" or a rate like "120/minute"', _matching(r"([1-9]\d{0,8}/(second|minute|hour|day))?"))
OFFLOAD = Kind('"", "X-Accel-Redirect:/prefix/" or "X-Sendfile"', _matching(r"(X-Sendfile|X-Accel-Redirect:/\S*/|)"))
LEVEL = choice("debug", "info", "warn", "error", warning="warn")
