"""Uploads to a path that has a file, with versioning on: plain, in pieces, by tus (protocol, sections 5 and 5.5)."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core.preconditions import WriteConditions
from hmacfs.errors import PathConflict, PreconditionFailed, TakenOver, TooManyVersions, UnknownUpload
from hmacfs.services import uploads
from hmacfs.services.authority import UploadRequest
from hmacfs.state.base import FileRow
from tests.services.resuming import TOKEN, House, request
from tests.support.resuming import content_of, slot

OTHER = "token-of-client-2"
RIGHT, LONGER = content_of(100), content_of(150)
Make = Callable[..., House]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[House] = []

    def build(**options: Any) -> House:
        made.append(House(tmp_path / "store", **{"versions": {}, **options}))
        return made[-1]

    yield build
    for house in made:
        house.close()


@pytest.fixture
def house(make: Make) -> House:
    return make()


@pytest.fixture(params=["small", "large"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "large":
        monkeypatch.setattr(uploads, "SMALL", -1)


def plain(house: House, content: bytes = RIGHT, **values: Any) -> Any:
    """A plain PUT; what it asked of its body."""
    asked = replace(request(len(content), ""), **values)
    body = house.body(content)
    house.uploads.receive(asked, body)
    return body


def kept(house: House) -> list[int]:
    """Sizes of the versions, the oldest first."""
    assert house.versions is not None
    return [version.entity.size for version in house.versions.of(slot("a/b.jpg"))]


def current(house: House) -> bytes:
    with closing(house.shelf.storage.open(slot("a/b.jpg"), with_content=False)) as stored:
        return stored.read(0, 10_000)


@pytest.mark.usefixtures("each_way")
def test_a_plain_put_replaces_and_the_observer_is_told_each_time(house: House) -> None:
    plain(house, RIGHT)
    plain(house, LONGER)
    plain(house, LONGER)

    assert current(house) == LONGER
    assert kept(house) == [100]
    assert house.told.completed == [("a/b.jpg", 100), ("a/b.jpg", 150), ("a/b.jpg", 150)]


@pytest.mark.usefixtures("each_way")
def test_the_catalogue_knows_the_file_that_is_there_though_a_worker_tells_late_of_the_one_before(house: House) -> None:
    rows: list[FileRow] = []
    house.recorder.file_stored = rows.append  # type: ignore[method-assign]
    for content in (LONGER, RIGHT):
        plain(house, content)

    for row in reversed(rows):
        house.tier.record_files([row])

    found = house.tier.find_file("a/b.jpg")
    assert found is not None
    assert found.size == len(RIGHT)


@pytest.mark.usefixtures("each_way")
def test_a_version_that_an_upload_pushes_out_is_told(make: Make) -> None:
    house = make(versions={"most": 1})
    for size in (100, 150, 200, 250):
        plain(house, content_of(size))

    assert kept(house) == [200]
    assert house.told.pruned == [("a/b.jpg", 1, 100, 100, "MaxVersions"), ("a/b.jpg", 2, 150, 150, "MaxVersions")]


@pytest.mark.usefixtures("each_way")
def test_a_version_whose_content_has_another_name_is_told_with_its_size_though_it_frees_nothing(make: Make) -> None:
    house = make(versions={"most": 1})
    plain(house, RIGHT)
    (house.store / "a/other.jpg").hardlink_to(house.store / "a/b.jpg")

    for size in (150, 200):
        plain(house, content_of(size))

    assert house.told.pruned == [("a/b.jpg", 1, 100, 0, "MaxVersions")]


@pytest.mark.usefixtures("each_way")
def test_an_equal_file_and_one_whose_forerunner_is_not_kept_are_told_as_none_more_in_the_store(make: Make) -> None:
    house = make(versions={"most": 0})
    for content in (RIGHT, RIGHT, LONGER):
        plain(house, content)

    assert house.told.absorbed == [100, 100]
    assert kept(house) == []


@pytest.mark.usefixtures("each_way")
def test_a_file_whose_forerunner_is_kept_is_one_more_in_the_store(house: House) -> None:
    for content in (RIGHT, LONGER):
        plain(house, content)

    assert house.told.absorbed == []


def test_a_version_that_an_upload_in_pieces_pushes_out_is_told(make: Make) -> None:
    house = make(versions={"most": 1})
    for size in (100, 150):
        plain(house, content_of(size))

    house.piece(0, 200, 200)

    assert house.told.pruned == [("a/b.jpg", 1, 100, 100, "MaxVersions")]


@pytest.mark.usefixtures("each_way")
def test_a_large_file_beyond_versions_per_day_is_refused_before_its_body(make: Make) -> None:
    house = make(versions={"per_day": 1})
    for content in (RIGHT, LONGER):
        plain(house, content)
    body = house.body(content_of(200))

    with pytest.raises(TooManyVersions):
        house.uploads.receive(request(200, ""), body)

    assert current(house) == LONGER
    assert not body.asked or uploads.SMALL > 0


@pytest.mark.usefixtures("each_way")
def test_a_retry_of_what_is_there_is_no_version_though_the_day_is_used_up(make: Make) -> None:
    house = make(versions={"per_day": 1})
    for content in (RIGHT, LONGER):
        plain(house, content)

    plain(house, LONGER)

    assert kept(house) == [100]


def test_if_match_is_judged_before_the_body_and_again_when_it_is_published(house: House) -> None:
    plain(house, RIGHT)
    etag = house.shelf.storage.files.entity_at(slot("a/b.jpg")).etag  # type: ignore[union-attr]
    asked = matching(request(150, ""), etag)
    body = house.body(lambda: plain(house, content_of(120)), LONGER)

    with pytest.raises(PreconditionFailed):
        house.uploads.receive(asked, body)
    again = house.body(LONGER)
    with pytest.raises(PreconditionFailed):
        house.uploads.receive(asked, again)

    assert (body.asked > 0, again.asked) == (True, 0)
    assert current(house) == content_of(120)


@pytest.mark.usefixtures("each_way")
def test_if_none_match_of_a_star_never_replaces(house: House) -> None:
    only_new = WriteConditions(if_none_match="*")
    plain(house, conditions=only_new)

    with pytest.raises(PreconditionFailed):
        plain(house, LONGER, conditions=only_new)

    assert current(house) == RIGHT


def matching(asked: UploadRequest, etag: str) -> UploadRequest:
    return replace(asked, must_match=True, conditions=WriteConditions(if_match=etag))


def test_a_path_conflict_stays_one(house: House) -> None:
    plain(house)

    for path in ("a", "a/b.jpg/c"):
        with pytest.raises(PathConflict):
            house.uploads.receive(request(5, "", path=path), house.body(b"hello"))


# --- in pieces ---


def test_pieces_over_an_existing_path_become_its_next_version(house: House) -> None:
    plain(house)
    assert (house.ask(150).offset, house.ask(150).is_complete) == (0, False)

    house.piece(0, 20, 150)
    house.piece(75, 150, 150)
    done = house.piece(20, 75, 150)

    assert done.is_complete
    assert current(house) == LONGER
    assert kept(house) == [100]
    assert house.ask(150).is_complete
    assert house.shelf.names() == []


def test_asking_without_a_token_never_takes_the_current_file_for_the_new_one(house: House) -> None:
    """It may be as long by chance (protocol, section 5: "with versioning off")."""
    house.piece(0, 100)

    asked = house.ask(100, "")

    assert (asked.offset, asked.is_complete) == (0, False)
    assert asked.secret != TOKEN


def test_another_token_begins_a_new_version_and_the_old_token_still_knows_its_file(house: House) -> None:
    house.piece(0, 100)
    other = content_of(100)[::-1]

    assert house.ask(100, OTHER).offset == 0
    assert house.ask(100, TOKEN).is_complete
    done = house.piece(0, 100, token=OTHER, body=house.body(other))

    assert done.is_complete
    assert current(house) == other
    assert not house.ask(100, TOKEN).is_complete


def test_a_plain_put_with_a_token_replaces_too(house: House) -> None:
    house.whole()
    house.whole(150, OTHER)

    assert current(house) == LONGER
    assert kept(house) == [100]


def test_equal_pieces_make_no_version(house: House) -> None:
    house.piece(0, 100)

    done = house.piece(0, 100, token=OTHER)

    assert done.is_complete
    assert kept(house) == []
    assert house.shelf.names() == []


def test_a_piece_beyond_versions_per_day_is_refused_and_what_is_there_stays(make: Make) -> None:
    house = make(versions={"per_day": 1})
    plain(house, RIGHT)
    house.piece(0, 10, 120)
    plain(house, LONGER)
    house.piece(0, 20, 150, OTHER)  # it may prove equal to the current file

    with pytest.raises(TooManyVersions):
        house.piece(0, 20, 130, "token-of-client-3")
    with pytest.raises(TooManyVersions):
        house.piece(20, 150, 150, OTHER, body=house.body(bytes(130)))

    with pytest.raises(TooManyVersions):  # all of it is there, and may be published when the day is over
        house.ask(150, OTHER)

    assert current(house) == LONGER
    assert len(house.shelf.names()) == 3


def test_a_slot_that_was_published_meanwhile_ends_the_piece_and_its_upload_begins_anew(house: House) -> None:
    house.piece(0, 50, 150)
    body = house.body(LONGER[50:60], lambda: plain(house), LONGER[60:])

    with pytest.raises(TakenOver):
        house.piece(50, 150, 150, body=body)

    assert current(house) == RIGHT
    assert house.ask(150).offset == 0
    with pytest.raises(UnknownUpload):
        house.piece(60, 150, 150)


def test_a_tus_upload_over_an_existing_path_becomes_its_next_version(house: House) -> None:
    plain(house)

    upload_id = house.created(150)
    house.append(upload_id, 0, 75, 150)
    done = house.append(upload_id, 75, 150, 150)

    assert done.is_complete
    assert current(house) == LONGER
    assert kept(house) == [100]
