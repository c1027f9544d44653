"""Sending one file to a slot until it is there: again after what may pass, from where the server stopped.

A server without resuming (protocol, section 5.1) is noticed by its answer to the question how far it got; the file is
sent from its beginning then.
"""

import http.client
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from hmacfs.cli import connecting
from hmacfs.cli.common import fail
from hmacfs.core.retry import Schedule, retry_after

LONGEST_WAIT = 300.0
"""Seconds. A server that asks to wait longer (Retry-After) has refused, for the one who sits in front of it."""

_STORING_SECONDS = 1.0
"""Between two questions while the server stores what it has."""

_PASSING = frozenset((408, 429, 502, 503, 504))
"""502 and 504 are a proxy's words for a connection that failed."""

Headers = dict[str, str]


class _Passing(Exception):
    """What may go better next time.

    Args:
        sentence: for people.
        wait: seconds that the server asked for.
    """

    def __init__(self, sentence: str, wait: float = 0.0) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.wait = wait


@dataclass(frozen=True)
class _Answer:
    status: int
    refusal: str
    offset: int | None


class Part:
    """The bytes of an open file from ``offset`` to ``size``, never more or fewer.

    Args:
        moved: called with the place reached, as the bytes go out.
    """

    def __init__(self, file: IO[bytes], offset: int, size: int, moved: Callable[[int], None]) -> None:
        self._file = file
        self._place = offset
        self._size = size
        self._moved = moved
        file.seek(offset)

    def read(self, count: int = connecting.BLOCK, /) -> bytes:
        """The next bytes. Ends the command when there are fewer than the size that was signed."""
        self._moved(self._place)
        wanted = min(count, self._size - self._place)
        try:
            block = self._file.read(wanted)
        except OSError as error:
            fail(f"the file cannot be read any further ({error.strerror}).")
        if wanted and not block:
            fail("the file has become shorter while it was sent.")
        self._place += len(block)
        return block


class Sender:
    """Sends one file to one slot.

    Args:
        connect: a new connection each time.
        target: request target of the signed PUT: it holds a MAC and is never shown.
        link: request target that fetches what was put.
        file: open for reading.
        size: bytes that were signed.
        content_type: the TYPE that was signed.
        schedule: for repetitions that bring nothing forward; one that does begins it anew.
        tell: given a sentence before each wait.
        moved: called with the bytes that are on their way or arrived.
    """

    def __init__(
        self,
        connect: Callable[[], http.client.HTTPConnection],
        target: str,
        link: str,
        file: IO[bytes],
        size: int,
        content_type: str,
        schedule: Schedule,
        tell: Callable[[str], None],
        moved: Callable[[int], None],
    ) -> None:
        self._connect = connect
        self._target = target
        self._link = link
        self._file = file
        self._size = size
        self._headers = {
            **connecting.AGENT,
            "Content-Type": content_type,
            "X-Session-Token": secrets.token_urlsafe(24),
        }
        self._schedule = schedule
        self._tell = tell
        self._moved = moved
        self._can_resume = size > 0
        self._is_first = True

    def run(self) -> None:
        """Until the file is stored. Ends the command with one sentence when it is refused for good."""
        furthest = done = 0
        while True:
            try:
                offset = self._offset()
                if offset is None:
                    return None
                if offset > furthest:
                    furthest, done = offset, 0
                return self._send(offset)
            except _Passing as error:
                self._is_first = False
                self._wait(error, done)
                done += 1

    def _wait(self, error: _Passing, done: int) -> None:
        delay = self._schedule.delay(done, random.random())  # noqa: S311 - spreads load, guards nothing
        if delay is None or error.wait > LONGEST_WAIT:
            fail(error.sentence)
        delay = max(delay, error.wait)
        self._tell(f"{error.sentence} Trying again in {delay:.0f} s ({done + 1} of {self._schedule.retries}).")
        time.sleep(delay)

    def _offset(self) -> int | None:
        """How far the server got; None when it has stored the file. Raises _Passing."""
        if self._is_first or not self._can_resume:
            return 0
        answer = self._exchange({"Content-Range": f"bytes */{self._size}", "Content-Length": "0"}, None)
        if answer.status == http.client.CREATED:
            return None
        if answer.status == http.client.ACCEPTED and answer.offset is not None:
            if answer.offset < self._size:
                return answer.offset
            if answer.offset == self._size:  # whoever brought the last byte is still publishing the file
                raise _Passing("the server has all of the file and is storing it.", _STORING_SECONDS)
        # Another server may refuse the question in many ways: one that ignores Content-Range says 403, because the
        # MAC is over another size. If it is a refusal of the file, that is told again when the file is sent.
        self._can_resume = False
        return 0

    def _send(self, offset: int) -> None:
        """Send the rest. Raises _Passing unless the file is stored then."""
        headers = {"Content-Length": str(self._size - offset)}
        if offset:
            headers["Content-Range"] = f"bytes {offset}-{self._size - 1}/{self._size}"
        answer = self._exchange(headers, Part(self._file, offset, self._size, self._moved))
        if answer.status == http.client.CREATED:
            return
        if offset or answer.status == http.client.ACCEPTED:
            self._judge_piece(answer)
        if answer.status == http.client.CONFLICT and not self._is_first and self._is_there():
            return
        fail(f"the upload was refused: {answer.refusal}")

    def _judge_piece(self, answer: _Answer) -> None:
        """Raises _Passing where asking again tells how to go on."""
        is_moved = answer.status == http.client.CONFLICT and answer.offset is not None
        if is_moved or answer.status in (http.client.ACCEPTED, http.client.NOT_FOUND):
            raise _Passing("the server has another part of the file than expected.")
        if answer.status in (http.client.BAD_REQUEST, http.client.METHOD_NOT_ALLOWED, http.client.NOT_IMPLEMENTED):
            self._can_resume = False
            raise _Passing("the server does not go on with an upload that broke off.")

    def _is_there(self) -> bool:
        """Whether the slot holds a file of our size: the answer to an earlier attempt was lost on its way.

        The path was made up for this file and nobody else can sign it, so it is ours.
        """
        _, response = self._request("HEAD", self._link, {}, None)
        return response.status == http.client.OK and response.getheader("Content-Length") == str(self._size)

    def _exchange(self, headers: Headers, body: Part | None) -> _Answer:
        """The answer to a PUT, also when it came before the whole body was sent. Raises _Passing."""
        refusal, response = self._request("PUT", self._target, {**self._headers, **headers}, body)
        told = response.getheader("Upload-Offset", "")
        offset = int(told) if told.isascii() and told.isdigit() and len(told) <= 18 else None
        if response.status in _PASSING:
            wait = retry_after(response.getheader("Retry-After", ""), time.time())
            raise _Passing(f"the upload was refused: {refusal}", wait)
        return _Answer(response.status, refusal, offset)

    def _request(
        self, method: str, target: str, headers: Headers, body: Part | None
    ) -> tuple[str, http.client.HTTPResponse]:
        try:
            connection = self._connect()
        except http.client.InvalidURL as error:
            fail(f"BaseURL cannot be reached: {error}.")
        try:
            connection.connect()
            try:
                connection.request(method, target, body=body, headers=headers)
            except (BrokenPipeError, ConnectionResetError):
                pass  # a refusal may be waiting to be read
            response = connection.getresponse()
            return connecting.refusal(response), response
        except (OSError, http.client.HTTPException) as error:
            trouble = connecting.trouble(connection, error)
            if trouble.may_pass:
                raise _Passing(trouble.sentence) from error
            fail(trouble.sentence)
        finally:
            connection.close()
