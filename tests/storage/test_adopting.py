"""What killed processes left of plain PUTs with a token, and of journals that cannot be read."""

from collections.abc import Callable

import pytest

from hmacfs.storage.base import Metadata
from hmacfs.storage.partial import LocalPartial
from hmacfs.storage.partialfolders import key_of
from tests.storage.partialstore import TOKEN, Open
from tests.support.resuming import TYPE, Shelf, content_of, header, slot, write


def close(partial: LocalPartial | None) -> None:
    assert partial is not None
    partial.close()


FINDS: dict[str, Callable[[Shelf], object]] = {
    "by its token": lambda shelf: shelf.left(),
    "without a token": lambda shelf: close(shelf.partials.furthest(slot("a/b.jpg"), 100, TYPE)),
    "by a sweep": lambda shelf: shelf.partials.sweep(),
    "by a creation": lambda shelf: shelf.begin(header("token-of-client-2")).close(),
}


@pytest.mark.parametrize("find", FINDS.values(), ids=FINDS)
def test_what_a_killed_plain_put_left_is_what_its_token_stands_for_once_somebody_looks(
    opened: Open, find: Callable[[Shelf], object]
) -> None:
    shelf = opened(durability="full", most=9)
    shelf.begin(header(), (0, 10)).close()
    shelf.begin(header(), (0, 40), is_draft=True).close()
    shelf.begin(header(), (0, 60), is_draft=True).close()

    find(shelf)

    names = [name for name in shelf.names() if "unnamed" in name]
    assert names == []
    assert opened(boot=7).left() == [(0, 60)]
    assert shelf.partials.knows_token(TOKEN)


def test_what_a_killed_plain_put_left_goes_where_it_is_not_longer_and_its_checksums_stay(shelf: Shelf) -> None:
    shelf.begin(header(wanted=("md5:aa",)), (0, 60)).close()
    shelf.begin(header(wanted=("sha-256:bb",)), (0, 60), is_draft=True).close()
    shelf.begin(header("token-of-client-2"), (0, 60), is_draft=True).close()  # which stands for nothing

    found = shelf.partials.find(slot("a/b.jpg"), "session", TOKEN)

    assert found is not None
    assert found.look().extents.spans == [(0, 60)]
    assert found.wanted() == ("md5:aa", "sha-256:bb")
    assert len(shelf.names()) == 3
    found.close()


def test_a_plain_put_on_its_own_that_lives_is_left_alone_by_who_looks(opened: Open, shelf: Shelf) -> None:
    shelf.begin(header(), (0, 10)).close()
    draft = opened().begin(header(), (0, 60), is_draft=True)

    for find in (FINDS["by its token"], FINDS["without a token"], FINDS["by a sweep"]):
        find(shelf)

    assert shelf.left() == [(0, 10)]
    assert shelf.partials.count(slot("a/b.jpg")) == 2
    write(draft, 60, 100)
    draft.close()


def test_what_a_killed_plain_put_left_waits_while_its_tokens_upload_is_written(opened: Open, shelf: Shelf) -> None:
    known = opened().begin(header(), (0, 10))
    claim = known.claim(20, 30)
    assert claim is not None
    shelf.begin(header(), (0, 60), is_draft=True).close()

    assert shelf.left() == [(0, 10)]
    claim.write(memoryview(content_of(100)[20:30]), 20, record=True, watch=None)
    claim.release()
    known.close()

    assert shelf.left() == [(0, 60)]


@pytest.mark.parametrize("then", ["adopted", "published"])
def test_what_a_killed_plain_put_left_may_be_somebody_elses_once_it_is_ours(
    opened: Open, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    shelf, other = opened(), opened()
    shelf.begin(header(), (0, 10)).close()
    shelf.begin(header(), (0, 60), is_draft=True).close()
    real = LocalPartial.is_idle_now

    def meanwhile(partial: LocalPartial) -> bool:
        monkeypatch.undo()
        if then == "adopted":
            assert other.left() == [(0, 60)]
        else:
            other.storage.store(slot("a/b.jpg"), bytearray(b"plain"), Metadata(TYPE))
        return real(partial)

    monkeypatch.setattr(LocalPartial, "is_idle_now", meanwhile)

    assert shelf.left() == ([(0, 60)] if then == "adopted" else None)
    assert len(shelf.names()) == (3 if then == "adopted" else 0)


def test_what_killed_plain_puts_left_counts_for_nothing(shelf: Shelf) -> None:
    shelf.begin(header(), (0, 10)).close()
    for _ in range(2):
        shelf.begin(header("token-of-client-2"), (0, 10), is_draft=True).close()

    assert shelf.partials.count(slot("a/b.jpg")) == 1


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda content: b"",
    "header zeroed": lambda content: bytes(4096) + content[4096:],
    "state": lambda content: content[:16] + b"\x09" + content[17:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_token_whose_journal_is_damaged_begins_anew(shelf: Shelf, damage: Callable[[bytes], bytes]) -> None:
    shelf.begin(header(), (0, 10)).close()
    shelf.begin(header("token-of-client-2"), (0, 30)).close()
    damaged = next(iter(shelf.store.rglob(f"??/*/{key_of('session', TOKEN)}.log")))
    damaged.write_bytes(damage(damaged.read_bytes()))

    assert not shelf.partials.knows_token(TOKEN)
    shelf.begin(header(), (0, 20)).close()

    assert shelf.left() == [(0, 20)]
    assert shelf.left("token-of-client-2") == [(0, 30)]
    assert shelf.partials.knows_token(TOKEN)
    assert len(list(shelf.store.rglob("*.part"))) == 2
