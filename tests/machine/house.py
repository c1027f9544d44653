"""The WSGI application over a real store in this process, called as a server calls it; a killed worker is a fork.

Nothing is synced: no power is cut here, and what a boot believes is in the journals. Not for tests under gevent: what
blocks there is a plain call here.
"""

import hashlib
import io
import os
import pickle
import random
import secrets
import traceback
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock
from urllib.parse import unquote_to_bytes

from hmacfs.app import create_app
from hmacfs.services.observer import Exchange, Observer
from hmacfs.settings import Settings
from hmacfs.storage import partialfolders
from hmacfs.storage.local import LocalStorage
from tests.machine.wire import Body, Request
from tests.support.http import Answer
from tests.support.server import SECRET

CHANGES = ("pwrite", "open", "link", "rename", "unlink", "mkdir", "rmdir", "setxattr", "fsync")
"""Calls of os before which a worker may be killed; the kernel does each of them wholly or not at all."""

_KILLED, _FAILED = 9, 70


class Input:
    """wsgi.input as gunicorn gives it: a body that breaks off looks like its end, or like a broken chunk.

    Args:
        step: called with every read.
    """

    def __init__(self, body: Body, step: Callable[[], None]) -> None:
        self._content = io.BytesIO(body.arrived)
        self._breaks = body.is_cut and not body.has_length
        self._step = step

    def read(self, size: int = -1) -> bytes:
        self._step()
        data = self._content.read(size)
        if not data and self._breaks:
            raise ConnectionResetError("in the middle of a chunk")
        return data


class Faults(Observer):
    """What the application did not foresee fails the test; the rest is nobody's business here."""

    def __init__(self) -> None:
        self.seen: list[BaseException] = []

    def failed(self, exchange: Exchange, error: BaseException) -> None:
        self.seen.append(error)


class House:
    """A Driver.

    Args:
        folder: an empty one.
        settings: beside those that every house has.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._store = folder / "store"
        self._settings = Settings(
            secret=SECRET, store_dir=str(self._store), state_dir=str(folder / "state"), min_free_space=0, **settings
        )
        self._faults = Faults()
        self._boot = 1
        self._stack = ExitStack()
        self._stack.enter_context(mock.patch.object(os, "fsync", _nothing))
        self._stack.enter_context(mock.patch.object(partialfolders, "boot_tag", self._boot_tag))
        for name, twin in (("token_hex", self._token_hex), ("token_urlsafe", self._token_urlsafe)):
            self._stack.enter_context(mock.patch.object(secrets, name, twin))
        self._sent = 0
        self._chance = random.Random(0)
        self._app = create_app(self._settings, self._faults)

    def close(self) -> None:
        self._close_app()
        self._stack.close()

    def send(self, request: Request, kill_at: int | None = None) -> Answer | None:
        self._sent += 1
        self._chance.seed(self._sent)  # other names in each request, but the same when an example is tried again
        if kill_at is None:
            return self._call(request, lambda: None)
        receiver, sender = os.pipe()
        child = os.fork()
        if not child:
            self._run_until(request, kill_at, sender)
        os.close(sender)
        with open(receiver, "rb") as file:
            said = file.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, _KILLED), said.decode()
        return pickle.loads(said) if code == 0 else None  # type: ignore[no-any-return]

    def age(self, seconds: int) -> None:
        for parent, _, names in os.walk(self._partials):
            for name in names:
                if name.endswith((partialfolders.LOG, partialfolders.DATA)):  # the tokens are second names of the first
                    path = os.path.join(parent, name)
                    info = os.stat(path)
                    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns - seconds * 10**9))

    def restart(self, *, power_cut: bool) -> None:
        self._close_app()
        self._boot += power_cut
        self._app = create_app(self._settings, self._faults)

    def sweep(self) -> None:
        assert self._app.janitor is not None
        self._app.janitor.sweep()

    def stored(self) -> dict[str, bytes]:
        return dict(self._stored())

    def partial_files(self, path: str) -> int:
        folder = self._partials / (slot := hashlib.sha256(path.encode()).hexdigest()[:32])[:2] / slot
        return sum(1 for name in os.listdir(folder) if name.endswith(partialfolders.DATA)) if folder.exists() else 0

    @property
    def _partials(self) -> Path:
        return self._store / ".hmacfs" / "partials"

    def _stored(self) -> Iterator[tuple[str, bytes]]:
        for parent, folders, names in os.walk(self._store):
            if parent == str(self._store):
                folders.remove(".hmacfs")
            for name in names:
                file = Path(parent, name)
                yield str(file.relative_to(self._store)), file.read_bytes()

    def _boot_tag(self) -> int:
        return self._boot

    def _token_hex(self, count: int) -> str:
        return self._chance.randbytes(count).hex()

    def _token_urlsafe(self, count: int) -> str:
        return urlsafe_b64encode(self._chance.randbytes(count)).decode().rstrip("=")

    def _close_app(self) -> None:
        storage = self._app.files._site.downloads._storage
        assert isinstance(storage, LocalStorage)
        os.close(storage._root)
        os.close(storage.staging.fd)

    def _run_until(self, request: Request, kill_at: int, sender: int) -> NoReturn:
        """In the child: the request, killed before the step ``kill_at``, else its answer into the pipe."""
        left = kill_at

        def step() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(_KILLED)

        try:
            with ExitStack() as stack:
                for name in CHANGES:
                    stack.enter_context(mock.patch.object(os, name, _counted(getattr(os, name), step)))
                answer = self._call(request, step)
            os.write(sender, pickle.dumps(answer))
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must never run on as if it were the test
            os.write(sender, traceback.format_exc().encode())
            os._exit(_FAILED)

    def _call(self, request: Request, step: Callable[[], None]) -> Answer:
        told: list[Any] = []
        sent: Any = self._app.wsgi_app(_environ(request, step), lambda *said: told.append(said))
        try:
            body = b"".join(sent)
        finally:
            sent.close()
        assert not self._faults.seen, traceback.format_exception(self._faults.seen[0])
        ((status, headers),) = told
        number, _, reason = status.partition(" ")
        return Answer(int(number), reason, list(headers), body)


def _nothing(_fd: int) -> None:
    """In the place of os.fsync."""


def _counted(function: Callable[..., Any], step: Callable[[], None]) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        step()
        return function(*arguments, **options)

    return counted


def _environ(request: Request, step: Callable[[], None]) -> dict[str, Any]:
    path, _, query = request.target.partition("?")
    fields = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in request.headers}
    if "HTTP_CONTENT_TYPE" in fields:
        fields["CONTENT_TYPE"] = fields.pop("HTTP_CONTENT_TYPE")
    if not request.body.has_length:
        fields["HTTP_TRANSFER_ENCODING"] = "chunked"
    elif request.method in ("PUT", "POST", "PATCH"):
        fields["CONTENT_LENGTH"] = str(len(request.body.content))
    return {
        "REQUEST_METHOD": request.method,
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "wsgi.url_scheme": "http",
        "wsgi.input": Input(request.body, step),
        "wsgi.input_terminated": True,
        "wsgi.errors": io.StringIO(),
        **fields,
    }
