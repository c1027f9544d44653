"""The ring of secrets in ``StateDir/keyring``, mode 0600: what a server's processes agree on, over restarts too."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hmacfs.core.rotation import Kind, Replaced, Ring, Secrets
from hmacfs.storage import private
from hmacfs.storage.base import os_errors_translated

_MOST_BYTES = 1024 * 1024


class RingFile:
    """The RingStore port.

    Args:
        state_dir: absolute; made when something is saved.
    """

    def __init__(self, state_dir: str) -> None:
        self._folder = state_dir
        self._path = os.path.join(state_dir, "keyring")
        self._seen: tuple[int, int] | None = None

    def load(self) -> Ring | None:
        with os_errors_translated():
            try:
                fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return None
            try:
                self._seen = _version(os.fstat(fd))
                content = os.read(fd, _MOST_BYTES)
            finally:
                os.close(fd)
        try:
            return _ring(json.loads(content))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None  # damaged: what the sources say now is begun with

    def has_changed(self) -> bool:
        with os_errors_translated():
            try:
                return _version(os.stat(self._path, follow_symlinks=False)) != self._seen
            except FileNotFoundError:
                return False

    @contextmanager
    def alone(self) -> Iterator[bool]:
        with os_errors_translated():
            fd = self._opened_lock()
        try:
            yield _locks(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """A ``with`` block that waits until this process is the only one in it."""
        with os_errors_translated():
            fd = self._opened_lock()
        try:
            _locks(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def save(self, ring: Ring) -> None:
        content = json.dumps(_values(ring), ensure_ascii=False).encode()
        with os_errors_translated():
            self._seen = _version(private.replace_private(self._path, content))

    def _opened_lock(self) -> int:
        private.make_private_directory(self._folder)
        return os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _version(info: os.stat_result) -> tuple[int, int]:
    return info.st_ino, info.st_mtime_ns


def _locks(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        return False
    return True


def _values(ring: Ring) -> dict[str, Any]:
    current = ring.current
    return {
        "current": {"secret": current.secret, "jwt": current.jwt, "delete": current.delete},
        "previous": current.previous,
        "replaced": [{"kind": each.kind.value, "value": each.value, "until": each.until} for each in ring.replaced],
        "asked_at": ring.asked_at,
        "trouble": ring.trouble,
    }


def _ring(values: dict[str, Any]) -> Ring:
    """Raises ValueError, KeyError, TypeError or AttributeError for anything that ``_values`` did not make."""
    current = {name: _text(values["current"][name]) for name in ("secret", "jwt", "delete")}
    replaced = tuple(
        Replaced(Kind(each["kind"]), _text(each["value"]), int(each["until"])) for each in values["replaced"]
    )
    if not current["secret"]:
        raise ValueError("no secret")
    previous = tuple(_text(each) for each in values["previous"])
    return Ring(Secrets(**current, previous=previous), replaced, int(values["asked_at"]), _text(values["trouble"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value
