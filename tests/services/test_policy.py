"""What an operator does not want is refused at its place in the order of checks, and never published."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core import policy, sniffing
from hmacfs.core.signature import Claim, Protocol
from hmacfs.errors import BadSignature, ExtensionRefused, FileExists, StorageFull, TooLarge, Truncated, TypeRefused
from hmacfs.offload import InlinePool
from hmacfs.services import uploads
from tests.services import resuming, uploading
from tests.services.uploading import MAX, ScriptedBody, request, v2_claim
from tests.support import specimens

NO_PROGRAMS = policy.make([], ["exe", "php"], ["application/x-dosexec", "text/html"])
PROGRAM = specimens.windows_program().ljust(500, b"\0")
PICTURE = specimens.png().ljust(500, b"\0")
WRONG = Claim(Protocol.V2, "0" * 64)


@pytest.fixture(params=["small", "large"])
def house(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[uploading.House]:
    """For uploads in one piece, by the way of small files or of large ones."""
    built = uploading.House(tmp_path / "plain")
    if request.param == "large":
        monkeypatch.setattr(uploads, "SMALL", -1)
    yield built
    assert built.board.pending() == 0
    assert built.buffers.lent == 0
    built.close()


@pytest.fixture
def pieces(tmp_path: Path) -> Iterator[resuming.House]:
    """For uploads that go on."""
    built = resuming.House(tmp_path / "pieces", policy=NO_PROGRAMS)
    yield built
    built.close()


# --- in one piece ---


def test_a_refused_extension_is_told_before_the_body(house: uploading.House) -> None:
    body = ScriptedBody(b"hello")

    with pytest.raises(ExtensionRefused) as caught:
        house.uploads(policy=NO_PROGRAMS).receive(request(5, path="a/x.php.jpg"), body)

    assert (caught.value.status, caught.value.code, body.asked) == (403, "extension-refused", 0)
    assert house.files() == {}


def test_a_declared_type_is_refused_before_the_body(house: uploading.House) -> None:
    body = ScriptedBody(b"hello")

    with pytest.raises(TypeRefused) as caught:
        house.uploads(policy=NO_PROGRAMS).receive(request(5, content_type="Text/HTML; charset=utf-8"), body)

    assert (caught.value.status, caught.value.code, body.asked) == (403, "type-refused", 0)


def test_the_type_that_the_signature_proves_is_judged(house: uploading.House) -> None:
    claim = v2_claim("a/b.html", 5, "text/html; charset=utf-8")
    asked = request(5, path="a/b.html", claim=claim, content_type="application/octet-stream", sent_type=False)

    with pytest.raises(TypeRefused):
        house.uploads(type_from_extension=True, policy=NO_PROGRAMS).receive(asked, ScriptedBody(b"hello"))


@pytest.mark.parametrize("block", [1, 64, 500])
def test_content_is_refused_whatever_it_is_declared_as(house: uploading.House, block: int) -> None:
    body = ScriptedBody(*(PROGRAM[at : at + block] for at in range(0, len(PROGRAM), block)))

    with pytest.raises(TypeRefused) as caught:
        house.uploads(policy=NO_PROGRAMS).receive(request(500, path="a/b.png", content_type="image/png"), body)

    assert "content" in caught.value.detail
    assert house.files() == {}
    assert house.recorder.queued == 0


def test_other_content_is_stored(house: uploading.House) -> None:
    house.uploads(policy=NO_PROGRAMS).receive(request(500, path="a/b.png"), ScriptedBody(PICTURE))

    assert house.files() == {"a/b.png": PICTURE}


def test_a_large_refused_body_is_not_read_to_its_end(tmp_path: Path) -> None:
    house = uploading.House(tmp_path / "store")
    content = specimens.windows_program() + bytes(200_000)
    body = ScriptedBody(*(content[at : at + 64] for at in range(0, len(content), 64)))

    with pytest.raises(TypeRefused):
        house.uploads(max_size=0, policy=NO_PROGRAMS).receive(request(len(content)), body)

    assert body.asked * 64 < 10_000
    house.close()


class WatchedPool(InlinePool):
    """Knows whether a job of it runs."""

    is_running = False

    def run(self, job: Callable[..., Any], *args: Any) -> Any:
        self.is_running = True
        try:
            return super().run(job, *args)
        finally:
            self.is_running = False


def test_content_is_judged_once_in_a_job_of_the_disk_pool(
    house: uploading.House, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = house.storage.disk = house.storage.short = WatchedPool()
    judged: list[bool] = []
    types_of = sniffing.types_of

    def watched(block: bytes) -> frozenset[str]:
        judged.append(pool.is_running)
        return types_of(block)

    monkeypatch.setattr(sniffing, "types_of", watched)
    house.uploads(policy=NO_PROGRAMS).receive(request(500, path="a/b.png"), ScriptedBody(PICTURE))

    assert judged == [True]


Ask = Callable[[uploading.House], Any]


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda house: request(5, path="a/b.exe", claim=WRONG), BadSignature),
        (lambda house: request(MAX + 1, path="a/b.exe"), TooLarge),
        (lambda house: request(5, path="there.exe"), ExtensionRefused),
        (lambda house: request(5, path="there.txt", content_type="text/html"), TypeRefused),
        (lambda house: request(5, path="there.txt"), FileExists),
        (lambda house: request(len(PROGRAM), path="there.txt"), FileExists),
    ],
    ids=["signature", "total", "extension", "type", "exists", "exists, before the content"],
)
def test_the_policy_has_its_place_in_the_order(house: uploading.House, ask: Ask, error: type[Exception]) -> None:
    for path in ("there.exe", "there.txt"):
        house.put(path, b"first")

    with pytest.raises(error):
        house.uploads(policy=NO_PROGRAMS).receive(ask(house), ScriptedBody(PROGRAM))


def test_the_policy_comes_before_space(house: uploading.House) -> None:
    house.admitting(free_space=1 << 62)

    with pytest.raises(ExtensionRefused):
        house.uploads(policy=NO_PROGRAMS).receive(request(5, path="a/b.exe"), ScriptedBody())
    with pytest.raises(StorageFull):
        house.uploads(policy=NO_PROGRAMS).receive(request(5), ScriptedBody())


# --- in pieces ---


@pytest.mark.parametrize(
    "send",
    [
        lambda house: house.ask(path="a/b.exe"),
        lambda house: house.piece(0, 10, path="a/b.exe"),
        lambda house: house.whole(path="a/b.exe"),
        lambda house: house.created(path="a/b.exe"),
        lambda house: house.resumable.check(resuming.request(path="a/b.exe")),
    ],
)
def test_a_refused_extension_begins_no_upload(pieces: resuming.House, send: Callable[[resuming.House], Any]) -> None:
    with pytest.raises(ExtensionRefused):
        send(pieces)

    assert pieces.shelf.names() == []


def test_a_refused_type_begins_no_upload(pieces: resuming.House) -> None:
    for send in (pieces.ask, pieces.whole, pieces.created):
        with pytest.raises(TypeRefused):
            send(content_type="text/html")  # type: ignore[operator]

    assert pieces.shelf.names() == []


def nothing_is_left(house: resuming.House) -> bool:
    return house.shelf.names() == [] and house.offsets() == {} and not house.is_stored()


LONG = PROGRAM.ljust(20_000, b"\0")


def test_an_upload_ends_when_its_first_block_is_refused(pieces: resuming.House) -> None:
    with pytest.raises(TypeRefused):
        pieces.piece(0, 10_000, total=20_000, body=pieces.body(LONG[:10_000]))

    assert nothing_is_left(pieces)


def test_a_tus_upload_ends_when_its_first_block_is_refused(pieces: resuming.House) -> None:
    upload_id = pieces.created(20_000)

    with pytest.raises(TypeRefused):
        pieces.append(upload_id, 0, 10_000, 20_000, body=pieces.body(LONG[:10_000]))

    assert nothing_is_left(pieces)


@pytest.mark.parametrize(
    "spans",
    [
        [(0, 5000), (5000, 9000)],
        [(0, 8191), (8191, 8192)],
        [(0, 3000), (8000, 9000), (3000, 8000)],
        [(0, 1), (5000, 9000), (0, 5000)],
    ],
    ids=["in order", "to the byte", "a gap is filled", "the beginning comes last"],
)
def test_an_upload_ends_when_its_first_block_is_there_in_whatever_pieces(
    pieces: resuming.House, spans: list[tuple[int, int]]
) -> None:
    *earlier, last = spans
    for first, end in earlier:
        pieces.piece(first, end, total=20_000, body=pieces.body(LONG[first:end]))

    with pytest.raises(TypeRefused):
        pieces.piece(*last, total=20_000, body=pieces.body(LONG[last[0] : last[1]]))

    assert nothing_is_left(pieces)


def test_later_pieces_are_not_judged_again(pieces: resuming.House, monkeypatch: pytest.MonkeyPatch) -> None:
    content = PICTURE.ljust(20_000, b"\0")
    pieces.piece(0, 9000, total=20_000, body=pieces.body(content[:9000]))
    judged: list[int] = []
    monkeypatch.setattr(sniffing, "types_of", lambda block: judged.append(len(block)) or frozenset())

    pieces.piece(9000, 10_000, total=20_000, body=pieces.body(content[9000:10_000]))

    assert judged == []


TRACK = b'<?xml version="1.0"?>\n<!-- of a walk -->\n<gpx version="1.1"><wpt/></gpx>\n'


@pytest.mark.parametrize("cut", [5, 21, 22, 30, 42, 43, 47])
@pytest.mark.parametrize("way", ["session", "whole", "tus"])
def test_what_a_cut_hides_is_not_refused_before_the_rest_has_come(pieces: resuming.House, way: str, cut: int) -> None:
    total, path = len(TRACK), "a/b.gpx"
    first, rest = pieces.body(TRACK[:cut]), pieces.body(TRACK[cut:])
    if way == "tus":
        upload_id = pieces.created(total, path=path)
        pieces.append(upload_id, 0, cut, total, body=first)
        done = pieces.append(upload_id, cut, total, total, body=rest)
    elif way == "whole":
        with pytest.raises(Truncated):
            pieces.whole(total, body=first, path=path)
        done = pieces.piece(cut, total, total, body=rest, path=path)
    else:
        pieces.piece(0, cut, total, body=first, path=path)
        done = pieces.piece(cut, total, total, body=rest, path=path)

    assert done.is_complete
    assert (pieces.store / path).read_bytes() == TRACK


def test_a_refused_body_with_a_token_is_not_kept_for_later(pieces: resuming.House) -> None:
    with pytest.raises(TypeRefused):
        pieces.whole(500, body=pieces.body(PROGRAM))

    assert nothing_is_left(pieces)


def test_a_refused_body_leaves_what_its_token_stands_for(pieces: resuming.House) -> None:
    pieces.piece(0, 100, total=500, body=pieces.body(PICTURE[:100]))

    with pytest.raises(TypeRefused):
        pieces.whole(500, body=pieces.body(PROGRAM))

    assert pieces.ask(500).offset == 100


@pytest.mark.parametrize("cuts", [[1, 500], [2, 64, 500], [60, 61, 500]])
def test_content_is_judged_at_the_end_whatever_order_its_pieces_come_in(
    pieces: resuming.House, cuts: list[int]
) -> None:
    pieces.piece(0, cuts[0], total=500, body=pieces.body(PROGRAM[: cuts[0]]))
    *later, last = list(itertools.pairwise(cuts))[::-1]
    for first, end in later:
        pieces.piece(first, end, total=500, body=pieces.body(PROGRAM[first:end]))

    with pytest.raises(TypeRefused):
        pieces.piece(*last, total=500, body=pieces.body(PROGRAM[last[0] : last[1]]))

    assert nothing_is_left(pieces)


def test_a_tus_upload_is_judged_at_the_end_where_each_piece_was_too_short_to_tell(pieces: resuming.House) -> None:
    upload_id = pieces.created(500)
    for first in range(0, 50, 10):
        pieces.append(upload_id, first, first + 10, 500, body=pieces.body(PROGRAM[first : first + 10]))

    with pytest.raises(TypeRefused):
        pieces.append(upload_id, 50, 500, 500, body=pieces.body(PROGRAM[50:]))

    assert nothing_is_left(pieces)


def test_what_is_recorded_counts_and_not_what_is_repeated(pieces: resuming.House) -> None:
    pieces.piece(0, 100, total=500, body=pieces.body(PICTURE[:100]))

    done = pieces.piece(100, 500, total=500, body=pieces.body(PICTURE[100:]))

    assert done.is_complete
    assert (pieces.store / "a/b.jpg").read_bytes() == PICTURE


def test_a_tus_upload_that_a_crash_left_whole_is_judged_when_it_is_asked_for(
    pieces: resuming.House, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = pieces.created(500)
    pieces.append(upload_id, 0, 10, 500, body=pieces.body(PROGRAM[:10]))
    monkeypatch.setattr(pieces.engine, "after", lambda *_args, **_values: pieces.resumable)
    pieces.append(upload_id, 10, 500, 500, body=pieces.body(PROGRAM[10:]))
    monkeypatch.undo()

    with pytest.raises(TypeRefused):
        pieces.resumable.head(upload_id)

    assert nothing_is_left(pieces)
