"""Requests whose signature is too late: they go on with what began in time, and begin nothing (protocol, section 2)."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core.signature import Claim, Protocol
from hmacfs.core.upload import Piece
from hmacfs.errors import BadSignature, FileExists, RequestError, Truncated
from hmacfs.services.authority import UploadRequest
from hmacfs.services.progress import Progress
from tests.services.resuming import OTHER, RIGHT, SECRET, TOKEN, House, request
from tests.support import tokens
from tests.support.resuming import TYPE, content_of, slot

UNTIL = 1_000
OTHERS = b"x" * 100


class Late:
    """A house with a clock of its own for signatures, all of which end at the same second unless told."""

    def __init__(self, store: Path, versions: dict[str, int] | None) -> None:
        self.now = UNTIL
        self.house = House(store, versions=versions, signing={"v3": True, "clock": lambda: self.now})

    def request(self, total: int = 100, token: str = TOKEN, until: int = UNTIL, kind: str = TYPE) -> UploadRequest:
        query = tokens.v3_query(SECRET, "PUT", "a/b.jpg", until, total, kind)
        claim = Claim(Protocol.V3, query[3:67], str(until))
        return replace(request(total, token, content_type=kind), claim=claim)

    def whole(self, content: bytes = RIGHT, **said: Any) -> Progress:
        return self.house.sessions.put_whole(self.request(len(content), **said), self.house.body(content))

    def piece(self, first: int, end: int, content: bytes = RIGHT, total: int = 100, **said: Any) -> Progress:
        body = self.house.body(content[first:end])
        return self.house.sessions.put_piece(self.request(total, **said), Piece(first, end), body)

    def ask(self, **said: Any) -> Progress:
        return self.house.sessions.ask(self.request(**said))

    @property
    def content(self) -> bytes:
        with closing(self.house.shelf.storage.open(slot("a/b.jpg"), with_content=False)) as stored:
            return stored.read(0, 10_000)

    @property
    def kept(self) -> int:
        """How many versions there are."""
        return len(self.house.versions.of(slot("a/b.jpg"))) if self.house.versions is not None else 0


@pytest.fixture(params=["versions", "no versions"])
def late(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Late]:
    built = Late(tmp_path / "store", {} if request.param == "versions" else None)
    yield built
    built.house.close()


@pytest.fixture
def replacing(tmp_path: Path) -> Iterator[Late]:
    """Where a file that exists may be replaced."""
    built = Late(tmp_path / "store", {})
    yield built
    built.house.close()


@pytest.mark.parametrize("content", [RIGHT, OTHERS, content_of(50)], ids=["equal", "other", "shorter"])
def test_a_late_whole_body_replaces_nothing_once_its_upload_is_published(late: Late, content: bytes) -> None:
    late.whole()
    late.now += 1

    with pytest.raises(BadSignature) as refused:
        late.whole(content)

    assert refused.value.reason == "expired"
    assert (late.content, late.kept) == (RIGHT, 0)
    assert late.house.shelf.names() == []


def test_another_late_signature_with_the_token_of_a_published_file_replaces_nothing(late: Late) -> None:
    late.whole()
    late.now += 2

    with pytest.raises(BadSignature):
        late.whole(OTHERS, until=UNTIL + 1)

    assert late.content == RIGHT


@pytest.mark.parametrize(
    "send",
    [
        lambda late: late.piece(0, 50, total=150, content=content_of(150)),
        lambda late: late.piece(0, 150, total=150, content=content_of(150)),
        lambda late: late.ask(total=150),
        lambda late: late.ask(kind="image/png"),
    ],
    ids=["piece", "all of it in a piece", "question", "another type"],
)
def test_a_late_signature_for_another_file_begins_nothing_beside_the_published_one(
    late: Late, send: Callable[[Late], Progress]
) -> None:
    late.whole()
    late.now += 1

    with pytest.raises(BadSignature):
        send(late)

    assert late.content == RIGHT
    assert late.house.shelf.names() == []


def test_a_late_client_whose_last_answer_was_lost_hears_that_its_file_is_there(late: Late) -> None:
    late.piece(0, 60)
    late.piece(60, 100)
    late.now += 1

    told = [late.ask(), late.piece(60, 100), late.piece(0, 100, OTHERS)]

    assert [(each.is_complete, each.offset) for each in told] == [(True, 100)] * 3
    assert (late.content, late.kept) == (RIGHT, 0)


def test_a_whole_body_repeated_in_time_after_a_lost_answer_makes_no_version(replacing: Late) -> None:
    replacing.whole()

    again = replacing.whole()

    assert again.is_complete
    assert (replacing.content, replacing.kept) == (RIGHT, 0)


def test_a_late_upload_goes_on_to_its_end(late: Late) -> None:
    late.piece(0, 60)
    late.now += 1

    assert late.ask().offset == 60
    assert late.piece(60, 100).is_complete
    assert late.content == RIGHT


def test_a_late_whole_body_goes_on_with_what_its_token_began_in_time_and_only_once(late: Late) -> None:
    late.piece(0, 10)
    late.now += 1

    done = late.whole()

    assert done.is_complete
    with pytest.raises(BadSignature):
        late.whole(OTHERS)
    assert late.content == RIGHT


def test_a_late_whole_body_that_breaks_off_is_kept_for_its_token(late: Late) -> None:
    late.piece(0, 10)
    late.now += 1
    body = late.house.body(RIGHT[:40])

    with pytest.raises(Truncated):
        late.house.sessions.put_whole(late.request(), body)

    assert late.ask().offset == 40


@pytest.mark.parametrize(
    "send",
    [lambda late: late.whole(OTHERS), lambda late: late.piece(0, 100, OTHERS), lambda late: late.ask()],
    ids=["whole", "piece", "question"],
)
@pytest.mark.parametrize("is_replaced", [True, False], ids=["replaced", "gone"])
def test_a_late_request_begins_nothing_when_its_upload_ends_just_behind_the_signature(
    replacing: Late,
    monkeypatch: pytest.MonkeyPatch,
    send: Callable[[Late], Progress],
    is_replaced: bool,
) -> None:
    replacing.piece(0, 10)
    replacing.now += 1
    real = replacing.house.engine._authority.proven

    def meanwhile(asked: UploadRequest, was_admitted: Any = None) -> UploadRequest:
        proven = real(asked, was_admitted)
        monkeypatch.undo()
        if is_replaced:
            replacing.whole(token=OTHER, until=replacing.now)
        else:
            partial = replacing.house.shelf.partials.find(slot("a/b.jpg"), "session", TOKEN)
            assert partial is not None
            with closing(partial):
                partial.remove()
        return proven

    monkeypatch.setattr(replacing.house.engine._authority, "proven", meanwhile)

    with pytest.raises((BadSignature, FileExists)):
        send(replacing)

    assert replacing.house.shelf.names() == []
    assert replacing.house.is_stored() == is_replaced
    assert not is_replaced or replacing.content == RIGHT


@pytest.mark.parametrize("token", ["", OTHER])
def test_a_late_signature_with_no_token_or_another_one_is_refused(late: Late, token: str) -> None:
    late.whole()
    late.now += 1

    sends: list[Callable[[], Progress]] = [
        lambda: late.ask(token=token),
        lambda: late.piece(0, 100, token=token),
        lambda: late.whole(token=token),
    ]
    for send in sends:
        with pytest.raises(RequestError) as refused:
            send()
        assert refused.value.code == "bad-signature"
