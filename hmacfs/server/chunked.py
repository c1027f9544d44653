"""Chunked framing taken apart (RFC 9112 section 7.1): bytes in, data out, and the place where the body ends.

Knows no socket, and keeps nothing but one unfinished line of framing. Strict throughout, and never more lenient than
gunicorn's own reader: where a proxy in front and we read the same bytes differently, one request can hide in another's
body. Only CRLF ends a line, and what is not exactly the grammar is refused.
"""

import re
from enum import Enum, auto

MAX_HEAD = 1024
"""Bytes of one chunk head: size, extensions and CRLF."""

MAX_TRAILERS = 8 * 1024
"""Bytes of the trailer section, its last CRLF included: no longer line passes than in a request head."""

MAX_TRAILER_LINES = 64
"""As many as a request head may have."""

MAX_EXCESS = 16 * 1024
"""Bytes of chunk heads, in the whole body, beyond those that the data justify: 16 for each chunk and two for each byte
of data. Go's net/http has this rule since CVE-2023-39326: extensions carry any number of bytes for nothing."""

CHUNKS_AT_ONCE = 64
"""Chunks that one call takes apart: a fraction of a millisecond, so that others can run in between."""

# RFC 9110 section 5.6.2 and 5.6.4
_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
# RFC 9112 section 7.1.1, with BWS as a recipient must accept it. 16 digits are 64 bits: nobody's counter runs over.
_EXTENSION = rb"[\t ]*;[\t ]*" + _TOKEN + rb"(?:[\t ]*=[\t ]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_HEAD = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*\r\n")
_TRAILER = re.compile(rb"(" + _TOKEN + rb"):[\t -~\x80-\xff]*\r\n")

_FORBIDDEN = frozenset(
    (
        *(b"content-encoding", b"content-length", b"content-range", b"content-type"),
        *(b"authorization", b"host", b"te", b"trailer", b"transfer-encoding"),
    )
)
"""RFC 9110 section 6.5.1: framing, routing, authentication and content format cannot come behind the content."""


class BadChunk(Exception):
    """The framing of a chunked body is broken, so nobody knows where it ends. Says what, and never repeats a byte."""


class _Expects(Enum):
    HEAD = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    NOTHING = auto()


_HEAD_NEXT, _DATA, _DATA_END, _TRAILER_NEXT, _NOTHING = _Expects


class ChunkDecoder:
    """One chunked body.

    Attributes:
        missing: bytes of the current chunk's data that have not come yet; 0 between chunks.
        chunks: how many have begun.
    """

    __slots__ = ("_excess", "_expects", "_fault", "_line", "_trailer_lines", "_trailer_room", "chunks", "missing")

    def __init__(self) -> None:
        self.missing = 0
        self.chunks = 0
        self._expects = _HEAD_NEXT
        self._line = bytearray()
        self._excess = 0
        self._trailer_room = MAX_TRAILERS
        self._trailer_lines = 0
        self._fault = ""

    @property
    def is_over(self) -> bool:
        """Whether the body has ended, trailers and all."""
        return self._expects is _NOTHING

    def feed(self, data: bytes | bytearray, start: int, end: int, room: memoryview) -> tuple[int, int]:
        """Take ``data[start:end]`` apart and copy the chunks' data to the start of ``room``.

        Returns where it stopped, and how many bytes it copied. It stops short of ``end`` behind the end of the body,
        before data for which there is no room, after CHUNKS_AT_ONCE, or before a fault. Raises BadChunk where nothing
        was copied before the fault, and else at the next call: the data in front of a fault come out first, however
        the input is split.
        """
        view = memoryview(data)
        at, copied = start, 0
        last = self.chunks + CHUNKS_AT_ONCE
        while at < end and not self._fault and self.chunks < last:
            if self._expects is _DATA:
                count = min(self.missing, end - at, len(room) - copied)
                if not count:
                    break
                room[copied : copied + count] = view[at : at + count]
                at += count
                copied += count
                self.took(count)
            elif self._expects is _NOTHING:
                break
            else:
                at = self._take_line(data, at, end)
        if self._fault and not copied:
            raise BadChunk(self._fault)
        return at, copied

    def took(self, count: int) -> None:
        """``count`` of the ``missing`` bytes went to their place without passing here."""
        self.missing -= count
        if not self.missing:
            self._expects = _DATA_END

    def _take_line(self, data: bytes | bytearray, at: int, end: int) -> int:
        """Collect a line of framing up to its LF, and judge it once it is whole. Returns where the next begins."""
        most = self._line_room()
        end = min(end, at + most - len(self._line))
        stop = data.find(b"\n", at, end) + 1
        self._line += data[at : stop or end]
        if stop:
            line = bytes(self._line)
            self._line.clear()
            self._fault = self._judge(line)
        elif len(self._line) >= most:
            self._fault = "line too long"
        return at if self._fault else stop or end

    def _line_room(self) -> int:
        """Bytes that the line which is expected may have."""
        if self._expects is _DATA_END:
            return 2
        return MAX_HEAD if self._expects is _HEAD_NEXT else self._trailer_room

    def _judge(self, line: bytes) -> str:
        """Go on behind a line. What is wrong with it, empty when nothing is."""
        if self._expects is _HEAD_NEXT:
            return self._judge_head(line)
        if self._expects is _TRAILER_NEXT:
            return self._judge_trailer(line)
        self._expects = _HEAD_NEXT
        return "" if line == b"\r\n" else "no CRLF behind the data"

    def _judge_head(self, line: bytes) -> str:
        head = _HEAD.fullmatch(line)
        if head is None:
            return "malformed chunk head"
        size = int(head[1], 16)
        self._excess = max(0, self._excess + len(line) - 16 - 2 * size)
        if self._excess > MAX_EXCESS:
            return "more framing than data"
        self.missing = size
        self.chunks += 1
        self._expects = _DATA if size else _TRAILER_NEXT
        return ""

    def _judge_trailer(self, line: bytes) -> str:
        if line == b"\r\n":
            self._expects = _NOTHING
            return ""
        self._trailer_room -= len(line)
        self._trailer_lines += 1
        if self._trailer_lines > MAX_TRAILER_LINES:
            return "too many trailers"
        field = _TRAILER.fullmatch(line)
        return "" if field and field[1].lower() not in _FORBIDDEN else "malformed trailer"
