"""An answer is plain WSGI: status line, headers, body, and a close that always tells."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest

from hmacfs.web.reply import Reply, Sending


class Body:
    """A body that notes what happens to it."""

    def __init__(self, notes: list[str], error: Exception | None = None) -> None:
        self.notes = notes
        self.error = error

    def __iter__(self) -> Iterator[bytes]:
        return iter((b"one", b"two"))

    def close(self) -> None:
        self.notes.append("body closed")
        if self.error:
            raise self.error

    def file_slice(self) -> tuple[int, int, int]:
        return (7, 0, 6)

    def progress(self, count: int) -> None:
        self.notes.append(f"{count} sent")


def answered(reply: Reply) -> tuple[list[Any], Any]:
    """What start_response was told, and what the server iterates over."""
    told: list[Any] = []
    sending = reply.wsgi(lambda *args: told.append(args))
    return told, sending


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, "200 OK"),
        (201, "201 Created"),
        (204, "204 No Content"),
        (206, "206 Partial Content"),
        (304, "304 Not Modified"),
        (409, "409 Conflict"),
        (429, "429 Too Many Requests"),
        (503, "503 Service Unavailable"),
        (507, "507 Insufficient Storage"),
    ],
)
def test_the_status_line_has_its_phrase(status: int, line: str) -> None:
    told, sending = answered(Reply(status, [("Content-Length", "0")]))

    assert told == [(line, [("Content-Length", "0")])]
    sending.close()


def test_every_status_of_the_standard_library_can_be_answered() -> None:
    for status in HTTPStatus:
        told, sending = answered(Reply(int(status), []))
        assert told[0][0].startswith(f"{int(status)} ")
        sending.close()


def test_bytes_are_one_block_and_nothing_is_none() -> None:
    _, full = answered(Reply(200, [], b"hello"))
    _, empty = answered(Reply(200, [], b""))

    assert (list(full), list(empty)) == ([b"hello"], [])


def test_an_iterable_is_sent_block_by_block_and_then_closed() -> None:
    notes: list[str] = []
    _, sending = answered(Reply(200, [], Body(notes)))

    assert list(sending) == [b"one", b"two"]
    assert notes == []
    sending.close()
    assert notes == ["body closed"]


def test_the_end_is_told_once_and_after_the_body_was_closed() -> None:
    notes: list[str] = []
    _, sending = answered(Reply(200, [], Body(notes), lambda: notes.append("told")))

    sending.close()
    sending.close()

    assert notes == ["body closed", "told"]


def test_the_end_is_told_though_the_body_cannot_be_closed() -> None:
    notes: list[str] = []
    _, sending = answered(Reply(200, [], Body(notes, OSError("broken")), lambda: notes.append("told")))

    with pytest.raises(OSError, match="broken"):
        sending.close()

    assert notes == ["body closed", "told"]


def test_the_end_is_told_though_nothing_was_sent() -> None:
    notes: list[str] = []
    _, sending = answered(Reply(204, [], b"", lambda: notes.append("told")))

    sending.close()

    assert notes == ["told"]


def test_a_file_is_offered_to_a_server_that_can_send_it_itself() -> None:
    notes: list[str] = []
    sending = Sending(Body(notes), None)

    assert sending.file_slice() == (7, 0, 6)
    sending.progress(6)
    assert notes == ["6 sent"]


def test_bytes_are_no_file() -> None:
    sending = Sending(b"hello", None)

    assert (sending.file_slice, sending.progress) == (None, None)
