"""Chunked framing: what is taken, what is refused, and that gunicorn's own reader refuses nothing that we take."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.parser import RequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from hmacfs.server.chunked import MAX_EXCESS, MAX_HEAD, MAX_TRAILER_LINES, MAX_TRAILERS, BadChunk, ChunkDecoder

NEXT = b"GET / HTTP/1.1\r\n"
LAST = b"0\r\n\r\n"


@dataclass(frozen=True)
class Reading:
    """What a reader made of some bytes.

    Attributes:
        end: "over", "refused", or "more" where the body has not ended.
        rest: the bytes behind the end, where there is one.
    """

    end: str
    data: bytes
    rest: bytes = b""


def read(*pieces: bytes, room: int = 10_000) -> Reading:
    """The decoder's reading of input that comes in pieces, into a room of so many bytes at a time."""
    decoder = ChunkDecoder()
    buffer = bytearray(room)
    data = b""
    try:
        for number, piece in enumerate(pieces):
            at = 0
            while at < len(piece) and not decoder.is_over:
                at, copied = decoder.feed(piece, at, len(piece), memoryview(buffer))
                data += buffer[:copied]
            if decoder.is_over:
                return Reading("over", data, piece[at:] + b"".join(pieces[number + 1 :]))
        decoder.feed(b"", 0, 0, memoryview(buffer))
    except BadChunk:
        return Reading("refused", data)
    return Reading("more", data)


_CFG = Config()
_CFG.set("limit_request_fields", 64)  # as the server runs
_CFG.set("limit_request_field_size", 8190)


def read_by_gunicorn(*pieces: bytes) -> Reading:
    """What gunicorn's parser makes of the same. Data of a refused body is not compared: it gives less of it."""
    left: Iterator[bytes] = iter(
        [b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", *filter(None, pieces)]
    )
    parser = RequestParser(_CFG, left, ("127.0.0.1", 5))
    request: Any = next(parser)
    try:
        data = request.body.read()
    except NoMoreData:
        return Reading("more", b"")
    except ParseException as error:
        # A trailer section that is cut off has this error there.
        return Reading("refused" if getattr(error, "term", None) != b"" else "more", b"")
    return Reading("over", data, parser.unreader.take_buffered() + b"".join(left))


def splits(raw: bytes) -> Iterator[tuple[bytes, ...]]:
    """Whole, byte by byte, and cut in two at every place."""
    yield (raw,)
    yield tuple(bytes((byte,)) for byte in raw)
    for cut in range(1, len(raw)):
        yield raw[:cut], raw[cut:]


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


# --- what is taken ---

GOOD = {
    "no data": (LAST, b""),
    "one chunk": (b"5\r\nhello\r\n" + LAST, b"hello"),
    "chunks": (b"3\r\nhel\r\n2\r\nlo\r\n" + LAST, b"hello"),
    "upper and lower case": (b"A\r\n0123456789\r\na\r\n0123456789\r\n" + LAST, b"0123456789" * 2),
    "leading zeros": (b"0005\r\nhello\r\n0000\r\n\r\n", b"hello"),
    "sixteen digits": (b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", b"hello"),
    "data that looks like framing": (chunk(LAST) + LAST, LAST),
    "data with LF and NUL": (chunk(b"\n\r\0\n") + LAST, b"\n\r\0\n"),
    "extension": (b"5;a\r\nhello\r\n" + LAST, b"hello"),
    "extension with a value": (b"5;a=b\r\nhello\r\n" + LAST, b"hello"),
    "extension with a text": (b'5;a="b;\\" \xff"\r\nhello\r\n' + LAST, b"hello"),
    "extensions with bad white space": (b"5 ; a = b\t;c\r\nhello\r\n" + LAST, b"hello"),
    "extension of the last chunk": (b"5\r\nhello\r\n0;a=b\r\n\r\n", b"hello"),
    "trailer": (b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", b"hello"),
    "empty trailer": (b"5\r\nhello\r\n0\r\nX-Sum:\r\n\r\n", b"hello"),
    "trailers": (b"5\r\nhello\r\n0\r\nA: b\r\nDigest:\t \xff=\"\r\n\r\n", b"hello"),
    "most of a head": (b"5;a=" + b"b" * (MAX_HEAD - 6) + b"\r\nhello\r\n" + LAST, b"hello"),
    "most lines of trailers": (b"0\r\n" + b"A: b\r\n" * MAX_TRAILER_LINES + b"\r\n", b""),
    "most of the trailers": (b"0\r\nA:" + b"b" * (MAX_TRAILERS - 6) + b"\r\n\r\n", b""),
    "many small chunks": (chunk(b"x") * 300 + LAST, b"x" * 300),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("rest", [b"", b"\r\n", NEXT])
def test_a_body_is_read_alike_however_it_comes(name: str, rest: bytes) -> None:
    raw, data = GOOD[name]
    pieces = splits(raw + rest) if len(raw) < 200 else [(raw + rest,), (raw[:-1], raw[-1:] + rest)]

    for split in pieces:
        assert read(*split) == Reading("over", data, rest)


@pytest.mark.parametrize("name", GOOD)
def test_gunicorn_reads_the_same(name: str) -> None:
    raw, data = GOOD[name]

    assert read_by_gunicorn(raw + NEXT) == Reading("over", data, NEXT)


@pytest.mark.parametrize("room", [1, 2, 3, 5, 6])
def test_data_for_which_there_is_no_room_is_left(room: int) -> None:
    raw = b"5\r\nhello\r\n6\r\n world\r\n" + LAST + NEXT

    for split in splits(raw):
        assert read(*split, room=room) == Reading("over", b"hello world", NEXT)


def test_a_full_room_still_takes_the_framing_behind_its_data() -> None:
    decoder = ChunkDecoder()
    raw = b"5\r\nhello\r\n" + LAST + NEXT

    assert decoder.feed(raw, 0, len(raw), memoryview(bytearray(5))) == (len(raw) - len(NEXT), 5)
    assert decoder.is_over


def test_only_the_named_part_of_the_input_is_read() -> None:
    decoder = ChunkDecoder()
    raw = bytearray(b"zz5\r\nhellozz")
    room = bytearray(10)

    assert decoder.feed(raw, 2, 10, memoryview(room)) == (10, 5)
    assert (room, decoder.missing) == (bytearray(b"hello\0\0\0\0\0"), 0)


def test_data_may_go_to_its_place_without_the_decoder() -> None:
    decoder = ChunkDecoder()
    room = memoryview(bytearray(10))
    decoder.feed(b"fffff\r\nabc", 0, 10, room)
    assert decoder.missing == 0xFFFFF - 3

    decoder.took(0xFFFFF - 3)

    assert decoder.missing == 0
    assert decoder.feed(b"\r\n" + LAST, 0, 7, room) == (7, 0)
    assert decoder.is_over


@pytest.mark.parametrize("name", GOOD)
def test_a_body_that_is_cut_off_is_not_over(name: str) -> None:
    raw, data = GOOD[name]

    for cut in range(0, len(raw), 1 + len(raw) // 200):
        reading = read(raw[:cut])
        assert reading.end == "more"
        assert data.startswith(reading.data)


# --- what is refused ---

BAD_SIZES = [
    b"", b"0x5", b"+5", b"-5", b"-0", b" 5", b"\t5", b"5 ", b"5\t", b"5_0", b"0_5", b"g", b"5h", b"\xb2", b"\0", b"5\0",
    b"5\r", b"\r5", b"5\n", b"\n5", b"5;", b"5 ;", b";", b";a", b" ;a", b"5;;a", b"5;a;", b"5;a ", b"5;a=", b"5;=b",
    b"5;a=b c", b"5;a=b=c", b'5;a="', b'5;a="b', b'5;a="b"c', b'5;a="\\"', b'5;"a"', b"5;a\0", b"5;a=\0", b'5;a="\0"',
    b"5;a\n", b'5;a="\n"', b"5;a\r", b'5;a="\r"', b"5;\xff", b"5;a=\xff", b"5,a", b"5 a", b"5 5", b"five", b"5.0",
]  # fmt: skip
OVERLONG_SIZES = [
    b"00000000000000005", b"10000000000000005", b"ffffffffffffffff5", b"f" * 17, b"0" * 1000 + b"5", b"5" * 10_000,
    b"5;" + b"a" * MAX_HEAD, b"5;a=" + b"b" * (MAX_HEAD - 5), b"5" + b";a" * MAX_HEAD,
]  # fmt: skip
BAD_TRAILERS = [
    b"A", b"A b: c", b"A : b", b": b", b" A: b", b"\tA: b", b"A: b\r\n c", b"A: b\r\n\tc", b"A: \0", b"A: \x7f",
    b"A\0: b", b"A: b\n", b"A: b\nB: c", b"\nA: b", b"A: b\rB: c", b"A: b\r", b"\xff: b", b"A\xb2: b", b"(A): b",
    b"A=b", b"Content-Length: 5", b"content-length: 5", b"Transfer-Encoding: chunked", b"TE: trailers", b"Host: x",
    b"Trailer: A", b"Authorization: x", b"Content-Type: a\r\nContent-Type: b",
    b"A: b\r\nHost: x", b"A: b\r\nC", b"\r", b"A:" + b"b" * MAX_TRAILERS, b"A: " + b"b" * (MAX_TRAILERS - 6),
    b"\r\n".join([b"A: b"] * (MAX_TRAILER_LINES + 1)),
]  # fmt: skip
BARRED_TRAILERS = [b"Content-Type: text/html", b"Content-Encoding: gzip", b"\r\n".join([b"A: " + b"b" * 200] * 41)]
STRICTER = [
    *(size + b"\r\nhello\r\n" + LAST for size in OVERLONG_SIZES),
    *(b"5\r\nhello\r\n" + size + b"\r\nhello\r\n" + LAST for size in OVERLONG_SIZES),
    *(b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n" for trailer in BARRED_TRAILERS),
    b"5\r\nhello\r\n0\r\n\rGET / HTTP/1.1",
]
"""What gunicorn takes, or takes for unfinished, and we do not."""

ATTACKS = [
    *(size + b"\r\nhello\r\n" + LAST for size in BAD_SIZES),
    *(b"5\r\nhello\r\n" + size + b"\r\nhello\r\n" + LAST for size in BAD_SIZES),
    *(b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n" for trailer in BAD_TRAILERS),
    b"5\nhello\n0\n\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\rhello\r0\r\r",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello\n\n0\r\n\r\n",
    b"5\r\nhello\n\r0\r\n\r\n",
    b"5\r\nhello\r\r0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"5\r\nhello\r\n\r\n0\r\n\r\n",
    b"4\r\nhello\r\n0\r\n\r\n",
    b"6\r\nhello\r\n0\r\n\r\n",
    b"\r\n5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\n",
    b"5\r\nhello\r\n0\n\r\n",
    b"5\r\nhello\r\n0\r\nA: b\n\r\n",
    b"5\r\nhello\r\n0\r\nA: b\r\n\n",
    b"0\r\n \r\n\r\n",
    b"hello",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("raw", [*ATTACKS, *STRICTER], ids=lambda raw: repr(raw[:40]))
def test_framing_that_is_not_exactly_the_grammar_is_refused_however_it_comes(raw: bytes) -> None:
    sent = raw + NEXT
    whole = read(sent)

    for split in splits(sent) if len(sent) < 200 else [(sent[:cut], sent[cut:]) for cut in range(1, 60)]:
        assert read(*split) == whole
    assert whole.end == "refused"


@pytest.mark.parametrize("raw", ATTACKS, ids=lambda raw: repr(raw[:40]))
def test_data_in_front_of_a_fault_comes_out_first(raw: bytes) -> None:
    assert read(chunk(b"good") + raw + NEXT).data.startswith(b"good")


def test_a_fault_stays() -> None:
    decoder = ChunkDecoder()
    room = memoryview(bytearray(10))
    with pytest.raises(BadChunk):
        decoder.feed(b"x\r\n", 0, 3, room)

    with pytest.raises(BadChunk):
        decoder.feed(LAST, 0, 5, room)

    assert not decoder.is_over
    assert decoder.missing == 0


def test_a_refusal_repeats_nothing_of_the_body() -> None:
    decoder = ChunkDecoder()

    with pytest.raises(BadChunk) as caught:
        decoder.feed(b"secret\r\n", 0, 8, memoryview(bytearray(10)))

    assert "secret" not in f"{caught.value!r} {caught.value}"


@pytest.mark.parametrize(
    "head", [b"5;" + b"a" * 10**6, b"5" * 10**6, b"0\r\nA: " + b"b" * 10**6, b"0\r\n" + b"A: b\r\n" * 10**5]
)
def test_a_line_that_does_not_end_is_refused_at_its_limit(head: bytes) -> None:
    assert read(head[: MAX_TRAILERS + 10]).end == "refused"


def test_extensions_cannot_outweigh_the_data() -> None:
    lean, fat = chunk(b"x" * 1000, b";a=" + b"b" * 900), chunk(b"x", b";a=" + b"b" * 900)
    tolerated = MAX_EXCESS // 900

    assert read(lean * 1000, room=10**6).end == "more"
    assert read(fat * (tolerated - 1)).end == "more"
    assert read(fat * (tolerated + 2)).end == "refused"
    assert read(chunk(b"x" * 9000) + fat * (tolerated + 2)).end == "refused"  # nothing is saved up


# --- never more lenient than gunicorn ---


@pytest.mark.parametrize("raw", ATTACKS, ids=lambda raw: repr(raw[:40]))
def test_gunicorn_refuses_the_attacks_too(raw: bytes) -> None:
    assert read_by_gunicorn(raw + NEXT).end == "refused"


@pytest.mark.parametrize("raw", STRICTER, ids=lambda raw: repr(raw[:40]))
def test_where_we_are_stricter_gunicorn_is_not(raw: bytes) -> None:
    assert read_by_gunicorn(raw + NEXT).end in ("over", "more")


def agree(*pieces: bytes) -> bool:
    """Whether both take the body, after a check that we take no other body than gunicorn does."""
    ours, theirs = read(*pieces, room=7), read_by_gunicorn(*pieces)
    if ours.end == "over":
        assert theirs == ours
        return True
    if theirs.end == "more":
        assert ours.end in ("more", "refused")
    return False


def pieces_of(raw: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    return [raw[first:last] for first, last in pairwise(places)]


CUTS = st.lists(st.integers(0, 120), max_size=6)
TOKENS = st.sampled_from([b"a", b"B9", b"x-y", b"!#$%&'*+-.^_`|~"])
SPACE = st.sampled_from([b"", b"", b" ", b"\t "])
TEXTS = st.sampled_from([b'""', b'"b"', b'"\\""', b'"\xff;\\\\ \t"'])


@st.composite
def extensions(draw: Callable[..., Any]) -> bytes:
    made = b""
    for _ in range(draw(st.integers(0, 2))):
        made += draw(SPACE) + b";" + draw(SPACE) + draw(TOKENS)
        if draw(st.booleans()):
            made += draw(SPACE) + b"=" + draw(SPACE) + draw(st.one_of(TOKENS, TEXTS))
    return made


@st.composite
def chunks(draw: Callable[..., Any]) -> bytes:
    data = draw(st.binary(min_size=1, max_size=20))
    size = b"%x" % len(data)
    size = draw(st.sampled_from([size, size.upper(), size.zfill(4), size.zfill(16)]))
    return b"%b%b\r\n%b\r\n" % (size, draw(extensions()), data)


@st.composite
def bodies(draw: Callable[..., Any]) -> bytes:
    """Whole and correct, with something behind it."""
    fields = draw(st.lists(st.builds(b"%b:%b%b".__mod__, st.tuples(TOKENS, SPACE, TOKENS)), max_size=3))
    trailers = b"".join(field + b"\r\n" for field in fields)
    last = draw(st.sampled_from([b"0", b"00", b"0" * 16])) + draw(extensions()) + b"\r\n" + trailers + b"\r\n"
    rest = draw(st.sampled_from([b"", b"\r\n", NEXT, b"0\r\n\r\n"]))
    return b"".join(draw(st.lists(chunks(), max_size=4))) + last + rest


@given(bodies(), CUTS)
def test_correct_bodies_are_read_as_gunicorn_reads_them(raw: bytes, cuts: list[int]) -> None:
    assert agree(*pieces_of(raw, cuts))


PIECES = st.sampled_from([
    b"\r\n", b"\r", b"\n", b"0", b"1", b"5", b"a", b"F", b"hello", b" ", b"\t", b";", b"=", b'"', b"\\", b":", b"\0",
    b"\xff", b"-", b"+", b"x", b"_", b",", b"0x", b"Host", b"Content-Length", b"TE", b"0\r\n", b"\r\n\r\n",
    b"1\r\nx\r\n", b";a=b",
])  # fmt: skip


@st.composite
def damaged(draw: Callable[..., Any]) -> bytes:
    """Correct, but for one to three places where something is put, taken away or exchanged."""
    raw: bytes = draw(bodies())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.one_of(st.just(b""), PIECES)) + raw[at + draw(st.integers(0, 2)) :]
    return raw


@settings(max_examples=1000)
@given(damaged(), CUTS)
def test_we_take_no_damaged_body_that_gunicorn_refuses_or_reads_differently(raw: bytes, cuts: list[int]) -> None:
    pieces = pieces_of(raw, cuts)

    agree(*pieces)

    assert read(*pieces) == read(raw)


@settings(max_examples=1000)
@given(st.lists(PIECES, max_size=12).map(b"".join), CUTS)
def test_we_take_no_nonsense_that_gunicorn_refuses_or_reads_differently(raw: bytes, cuts: list[int]) -> None:
    pieces = pieces_of(raw, cuts)

    agree(*pieces)

    assert read(*pieces) == read(raw)


@pytest.mark.parametrize("name", [name for name, (raw, _) in GOOD.items() if len(raw) < 100])
def test_every_single_changed_byte_is_judged_at_least_as_gunicorn_does(name: str) -> None:
    raw = GOOD[name][0]
    for at in range(len(raw)):
        for byte in b'\0\t\n\r "+-05;:=AaxFg\\\x7f\xff':
            agree(raw[:at] + bytes((byte,)) + raw[at + 1 :] + NEXT)


# --- cost ---


def seconds(count: int) -> float:
    """CPU time of so many one-byte chunks that come byte by byte."""
    raw = chunk(b"x") * count
    room = memoryview(bytearray(count))
    decoder = ChunkDecoder()
    begun = time.process_time()
    copied = 0
    for at in range(len(raw)):
        copied += decoder.feed(raw, at, at + 1, room[copied:])[1]
    assert copied == count
    return time.process_time() - begun


def test_the_cost_grows_with_the_body_and_no_faster() -> None:
    few, many = min(seconds(1000) for _ in range(5)), min(seconds(8000) for _ in range(3))

    assert many < 8 * few * 4  # 64 times if it were quadratic
