"""Requests of every kind, each with what its answer must be, sent from several threads and entered into a tally."""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from tests.support.http import Answer, Connection, Headers, head_of, url_of
from tests.support.server import Server
from tests.support.slot import DRAFT_BODY, LAST, MORE, TUS, TUS_BODY, WRONG, Slot, content, fresh_token, token_header
from tests.support.tally import Outcome, Tally
from tests.support.tokens import delete_query

THREADS = 4
PAUSE = 0.02
"""Seconds between two rounds of a thread: others work on the same machine."""
DELETE_SECRET = "a-delete-secret-for-tests"
FAILS, QUOTA, RATE = 3, 100_000, 40
KEYS = {
    "NumCores": 2,
    "EnableVersioning": True,
    "MaxVersions": 1,
    "DeleteSecret": DELETE_SECRET,
    "BlockAfterFails": FAILS,
    "UserQuota": QUOTA,
    "QuotaByFirstSegment": True,
    "RequestRateLimit": f"{RATE}/minute",
    "UploadMaxSize": "1MiB",
    "FileTTL": "30d",
    "SweepInterval": 1,
}
"""Of a server to which everything here can happen."""

_OLD = 60 * 86400
_numbers = itertools.count(1)

BIG = content(200_000)
SMALL = content(1000)


class NotServed(Exception):
    """The connection broke before the whole answer was there, or a worker that stops took no upload any more."""


DRAINING = Outcome(503, "draining")


class Client:
    """One thread's requests.

    Attributes:
        aged: paths of files that a sweep will find too old; they take no further request.
    """

    def __init__(self, server: Server, tally: Tally) -> None:
        self._server = server
        self._tally = tally
        self._address = ""
        self.aged: list[str] = []

    def rounds(self, stop: Event) -> None:
        """Everything there is, one after the other, until told to stop."""
        while not stop.is_set():
            number = next(_numbers)
            for each in self._kinds():
                self._address = _address(next(_numbers))
                try:
                    each(f"r{number}")
                except NotServed:
                    pass  # a worker was killed or replaced; the next round has paths of its own
            stop.wait(PAUSE)

    def _kinds(self) -> tuple[Callable[[str], None], ...]:
        uploads = self._plain, self._versions, self._session, self._tus, self._draft
        return *uploads, self._refused, self._malformed, self._limits

    def send(
        self, method: str, target: str, outcomes: Outcome | Sequence[Outcome], headers: Headers = (), body: bytes = b""
    ) -> Answer:
        """One request on a connection of its own, read to its end.

        Args:
            outcomes: one of them must be the answer.

        Raises:
            NotServed: there was none, or the server stops. Both are entered.
        """
        expected = [outcomes] if isinstance(outcomes, Outcome) else list(outcomes)
        told = [*headers, ("X-Forwarded-For", self._address)]
        if method not in ("GET", "HEAD", "OPTIONS") and not any(name == "Content-Length" for name, _ in headers):
            told.append(("Content-Length", str(len(body))))
        began, label = time.monotonic(), method if method != "BREW" else "other"
        template = self._template(target)
        try:
            with Connection(self._server.address) as connection:
                connection.send_all_or_until_refused(head_of(method, target, told), body)
                answer = connection.read_answer(bodiless=method == "HEAD")
                connection.read_to_end()
        except (EOFError, ConnectionError) as error:
            self._tally.note(began, label, template, expected, answered=False)
            raise NotServed from error
        uploads = [DRAINING] if method in ("PUT", "POST", "PATCH") else []
        found = [
            each for each in [*expected, *uploads] if (each.status, each.code) == (answer.status, answer.code or "")
        ]
        assert found, f"{method} {template}: {answer.status} {answer.code}, and not {expected}"
        self._tally.note(began, label, template, found[:1], answered=True)
        if found == [DRAINING]:
            raise NotServed
        return answer

    def _template(self, target: str) -> str:
        prefix = self._server.prefix
        if target.startswith(f"{prefix}.uploads/"):
            return f"{prefix}.uploads/<id>"
        return f"{prefix}<path>" if target.startswith(prefix) else "other"

    def _put(self, path: str, body: bytes, outcome: Outcome | None = None) -> Answer:
        outcome = outcome or Outcome(201, received=len(body), published=len(body))
        return self.send("PUT", self._slot(path, len(body)).target, outcome, body=body)

    def _get(
        self, path: str, outcome: Outcome | Sequence[Outcome], headers: Headers = (), method: str = "GET"
    ) -> Answer:
        return self.send(method, url_of(self._server, path), outcome, headers)

    def _slot(self, path: str, total: int) -> Slot:
        return Slot(self._server, path, total)

    def _plain(self, name: str) -> None:
        path, old = f"plain/{name}", f"old/{name}"
        tag = self._put(path, SMALL)["ETag"]
        self._put(f"{path}-big", BIG)
        self._get(path, Outcome(200, sent=1000))
        self._get(f"{path}-big", Outcome(200, sent=200_000))
        self._get(f"{path}-big", Outcome(206, sent=90_000), [("Range", "bytes=10000-99999")])
        self._get(path, Outcome(304), [("If-None-Match", tag)])
        self._get(path, Outcome(200), method="HEAD")
        self._get(path, Outcome(416, "range-not-satisfiable"), [("Range", "bytes=5000-")])
        self._get(f"{path}-none", Outcome(404, "not-found"))
        self._get(f"{path}-none", Outcome(404, "not-found"), method="HEAD")
        self._get(path, Outcome(204), method="OPTIONS")
        self._put(old, SMALL)
        moment = time.time() - _OLD
        os.utime(self._server.store_dir / old, (moment, moment))
        self.aged.append(old)

    def _versions(self, name: str) -> None:
        path = f"versions/{name}"
        self._put(path, b"first")
        self._put(path, b"second")
        self._put(path, b"third!", Outcome(201, received=6, published=6, deleted={"MaxVersions": 1}))
        query = delete_query(self._server.secret, path, DELETE_SECRET)
        self.send("DELETE", f"{url_of(self._server, path)}?{query}", Outcome(204, deleted={"DELETE": 2}))
        self._get(path, Outcome(410, "gone"))
        for body in (b"old", b"current"):  # one version that stays
            self._put(f"{path}-kept", body)

    def _session(self, name: str) -> None:
        slot, token, part = self._slot(f"session/{name}", len(BIG)), fresh_token(), 120_000
        known = token_header(token)
        self.send("PUT", slot.target, Outcome(202), [("Content-Range", f"bytes */{slot.total}"), *known])
        first = [slot.range(0, part), *known]
        self.send("PUT", slot.target, Outcome(202, received=part), first, BIG[:part])
        rest = Outcome(201, received=len(BIG) - part, published=len(BIG), is_continued=True)
        self.send("PUT", slot.target, rest, [slot.range(part, len(BIG) - part), *known], BIG[part:])
        unfinished = self._slot(f"session/{name}-stays", 5000)
        given = [unfinished.range(0, 1000), *token_header(fresh_token())]
        self.send("PUT", unfinished.target, Outcome(202, received=1000), given, SMALL)

    def _tus(self, name: str) -> None:
        slot = self._slot(f"tus/{name}", 3000)
        created = [TUS, ("Upload-Length", "3000"), TUS_BODY]
        location = self.send("POST", slot.target, Outcome(201, received=1000), created, SMALL)["Location"]
        self.send("HEAD", location, Outcome(200), [TUS])
        wrong = Outcome(409, "mismatching-upload-offset")
        self.send("PATCH", location, wrong, [TUS, TUS_BODY, ("Upload-Offset", "7")], SMALL)
        middle = Outcome(204, received=1000, is_continued=True)
        self.send("PATCH", location, middle, [TUS, TUS_BODY, ("Upload-Offset", "1000")], SMALL)
        last = Outcome(204, received=1000, published=3000, is_continued=True)
        self.send("PATCH", location, last, [TUS, TUS_BODY, ("Upload-Offset", "2000")], SMALL)
        other = self._slot(f"tus/{name}-ended", 3000)
        ended = self.send("POST", other.target, Outcome(201), [TUS, ("Upload-Length", "3000")])["Location"]
        self.send("DELETE", ended, Outcome(204), [TUS])

    def _draft(self, name: str) -> None:
        slot = self._slot(f"draft/{name}", 2000)
        first = Outcome(201, received=1000)
        location = self.send("PUT", slot.target, first, [MORE, ("Upload-Length", "2000")], SMALL)["Location"]
        self.send("HEAD", location, Outcome(204))
        last = Outcome(201, received=1000, published=2000, is_continued=True)
        self.send("PATCH", location, last, [DRAFT_BODY, LAST, ("Upload-Offset", "1000")], SMALL)

    def _refused(self, name: str) -> None:
        path = f"refused/{name}"
        plain = url_of(self._server, path)
        wrong = Outcome(403, "bad-signature", refusal=("v2", "wrong"))
        self.send("PUT", f"{plain}?{WRONG}", wrong, body=b"x")
        self.send("PUT", plain, Outcome(403, "bad-signature", refusal=("none", "missing")), body=b"x")
        malformed = Outcome(403, "bad-signature", refusal=("v2", "malformed"))
        self.send("PUT", f"{plain}?v2=abc", malformed, body=b"x")
        self.send("PUT", f"{plain}/../x?{WRONG}", Outcome(400, "bad-path"), body=b"x")
        self.send("PUT", self._slot(path, 2**21).target, Outcome(413, "too-large"), [("Content-Length", str(2**21))])
        self.send("BREW", plain, Outcome(405, "method-not-allowed"))
        self.send("GET", f"/elsewhere/{name}", Outcome(404, "not-found"))
        self.send("HEAD", f"{self._server.prefix}.uploads/{'0' * 32}", Outcome(404, "unknown-upload"))
        self._put(f"{name}/of/three", bytes(QUOTA + 1), Outcome(507, "quota-exceeded"))

    def _malformed(self, name: str) -> None:
        """Heads of which nobody learns the method: each is answered all the same."""
        target = self._slot(f"malformed/{name}", 1).target
        good = head_of("PUT", target, [("Content-Length", "1")])
        self._send_raw(good.replace(b"HTTP/1.1", b"HTTP/9.9"), 400)
        self._send_raw(good.replace(b"Content-Length: 1", b"Content-Length: one"), 400)
        self._send_raw(good.replace(b"Content-Length: 1", b"Transfer-Encoding: gzip"), 501)
        self._send_raw(good.replace(b"?", b"?x=" + b"y" * 9000 + b"&"), 414)
        odd = head_of("BREW", target).replace(b"upload.example", b"x" * 3000)
        self._send_raw(odd, 400, "bad-request")

    def _send_raw(self, head: bytes, status: int, code: str = "bad-head") -> None:
        began, outcome, answered = time.monotonic(), Outcome(status, code), False
        try:
            with Connection(self._server.address) as connection:
                connection.send(head)
                answer = connection.read_answer()
                assert (answer.status, answer.code) == (outcome.status, outcome.code)
                answered = True
                connection.read_to_end()
        except (EOFError, ConnectionError) as error:
            raise NotServed from error
        finally:
            self._tally.note(began, "other", "other", [outcome], answered=answered)

    def _limits(self, name: str) -> None:
        """Who guesses is banned, and who asks too often is told to wait: from when on depends on the workers."""
        wrong = Outcome(403, "bad-signature", refusal=("v2", "wrong"))
        for _ in range(FAILS + 2):
            outcomes = (wrong, Outcome(403, "banned"))
            self.send("PUT", f"{url_of(self._server, f'guess/{name}')}?{WRONG}", outcomes, body=b"x")
        self._address = _address(next(_numbers))
        for _ in range(RATE + 2):
            self._get("none", (Outcome(404, "not-found"), Outcome(429, "too-many-requests")))


def _address(number: int) -> str:
    """A client that nobody was before, as a proxy tells it."""
    return f"198.{18 + number // 65536 % 2}.{number // 256 % 256}.{number % 256}"


class Load:
    """What runs, and what it has done."""

    def __init__(self, server: Server, tally: Tally, pool: ThreadPoolExecutor, stop: Event) -> None:
        self._clients = [Client(server, tally) for _ in range(THREADS)]
        self._stop = stop
        self._running: list[Future[None]] = [pool.submit(each.rounds, stop) for each in self._clients]

    def check(self) -> None:
        """Raises what a client met that it should not have met."""
        for each in self._running:
            if each.done():
                each.result()

    def end(self) -> None:
        """When this returns every request has been answered or cut off."""
        self._stop.set()
        for each in self._running:
            each.result(60)

    @property
    def aged(self) -> list[str]:
        return [path for client in self._clients for path in client.aged]


@contextmanager
def load_on(server: Server, tally: Tally) -> Iterator[Load]:
    """Load for as long as the block runs."""
    stop = Event()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            load = Load(server, tally, pool, stop)
            yield load
            load.end()
        finally:
            stop.set()
