"""Checksums of uploads that go on: of the whole file, whichever request brings them, and of one piece."""

from hashlib import sha256

import pytest

from hmacfs.core.checksum import Wanted
from hmacfs.errors import ChecksumMismatch, Truncated
from hmacfs.storage.base import Metadata
from tests.services.resuming import FILE, OTHER, RIGHT, House, piece_sum, whole_sum
from tests.support.resuming import TYPE


def test_a_checksum_given_at_the_beginning_is_verified_at_the_end(house: House) -> None:
    house.piece(0, 50, wanted=whole_sum(RIGHT))

    assert house.piece(50, 100).is_complete

    assert house.shelf.read()[1].sha256 == sha256(RIGHT).hexdigest()


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha-256", "sha-512"])
def test_a_checksum_given_with_the_last_piece_is_of_the_whole_file(house: House, algorithm: str) -> None:
    house.piece(0, 20)
    house.piece(50, 100)

    assert house.piece(20, 50, wanted=whole_sum(RIGHT, algorithm)).is_complete

    assert house.shelf.read()[1].sha256 == (sha256(RIGHT).hexdigest() if algorithm == "sha-256" else "")


@pytest.mark.parametrize("when", ["first", "last"])
def test_a_whole_file_with_another_checksum_is_not_published_and_another_upload_stays(house: House, when: str) -> None:
    house.piece(0, 30, token=OTHER)
    wrong = whole_sum(b"something else")
    house.piece(0, 50, **({"wanted": wrong} if when == "first" else {}))

    with pytest.raises(ChecksumMismatch):
        house.piece(50, 100, **({"wanted": wrong} if when == "last" else {}))

    assert not house.is_stored()
    assert house.ask(token=OTHER).offset == 30
    assert house.ask().offset == 0
    assert house.piece(0, 100).is_complete


def test_a_piece_with_another_checksum_leaves_the_offset_and_the_bytes_where_they_were(house: House) -> None:
    house.piece(0, 30)

    with pytest.raises(ChecksumMismatch):
        house.piece(20, 70, body=house.body(b"x" * 50), wanted=piece_sum(b"y" * 50))

    assert house.ask().offset == 30
    assert house.piece(30, 100, wanted=piece_sum(RIGHT[30:])).is_complete
    assert house.shelf.read() == FILE


def test_a_broken_piece_with_a_checksum_records_nothing(house: House) -> None:
    house.piece(0, 30)

    with pytest.raises(Truncated):
        house.piece(30, 100, body=house.body(RIGHT[30:90]), wanted=piece_sum(RIGHT[30:]))

    assert house.ask().offset == 30


def test_a_piece_checksum_covers_repeated_bytes_too(house: House) -> None:
    house.piece(0, 30)

    with pytest.raises(ChecksumMismatch):
        house.piece(0, 40, body=house.body(b"x" * 30, RIGHT[30:40]), wanted=piece_sum(RIGHT[:40]))
    assert house.piece(0, 40, wanted=piece_sum(RIGHT[:40])).offset == 40


def test_a_tus_piece_with_another_checksum_leaves_the_offset_where_it_was(house: House) -> None:
    upload_id = house.created()
    house.append(upload_id, 0, 30)

    with pytest.raises(ChecksumMismatch):
        house.append(upload_id, 30, 100, body=house.body(b"x" * 70), wanted=piece_sum(RIGHT[30:]))

    assert house.resumable.head(upload_id).offset == 30
    assert house.append(upload_id, 30, 100, wanted=piece_sum(RIGHT[30:])).is_complete
    assert house.shelf.read() == (RIGHT, Metadata(TYPE))


def test_a_checksum_of_a_whole_body_is_the_whole_files_even_as_a_content_digest(house: House) -> None:
    with pytest.raises(ChecksumMismatch):
        house.whole(body=house.body(b"x" * 100), wanted=piece_sum(RIGHT))

    assert not house.is_stored()
    assert house.whole(wanted=piece_sum(RIGHT)).is_complete
    assert house.shelf.read()[1].sha256 == sha256(RIGHT).hexdigest()


def test_a_whole_body_with_another_checksum_leaves_what_its_token_had(house: House) -> None:
    house.piece(0, 30)

    with pytest.raises(ChecksumMismatch):
        house.whole(body=house.body(b"x" * 100), wanted=whole_sum(RIGHT))

    assert house.ask().offset == 30


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_a_checksum_of_the_whole_file_counts_whichever_piece_brings_it(house: House, wrong: int) -> None:
    pieces = [(0, 40), (80, 100), (40, 80)]
    carried = [whole_sum(b"another file") if number == wrong else Wanted() for number in range(3)]
    for (first, end), wanted in zip(pieces[:2], carried[:2], strict=True):
        house.piece(first, end, wanted=wanted)

    with pytest.raises(ChecksumMismatch):
        house.piece(40, 80, wanted=carried[2])

    assert not house.is_stored()
    assert house.shelf.names() == []


def test_a_checksum_outlives_the_put_that_takes_the_place_of_an_upload(house: House) -> None:
    house.piece(0, 10, wanted=whole_sum(b"another file"))
    with pytest.raises(Truncated):
        house.whole(body=house.body(RIGHT[:60]))
    assert house.ask().offset == 60

    with pytest.raises(ChecksumMismatch):
        house.piece(60, 100)


def test_a_checksum_of_a_draft_counts_whichever_request_brings_it(house: House) -> None:
    upload_id = house.created(face="draft")
    house.append(upload_id, 0, 100, is_last=False, wanted=whole_sum(b"another file"))

    with pytest.raises(ChecksumMismatch):
        house.append(upload_id, 100, 100, is_last=True)


@pytest.mark.parametrize("arrived", [0, 5])
def test_a_checksum_outlives_the_put_that_was_dropped(house: House, arrived: int) -> None:
    house.piece(0, 10)
    with pytest.raises(Truncated):
        house.whole(body=house.body(*filter(None, [RIGHT[:arrived]])), wanted=whole_sum(b"another file"))

    with pytest.raises(ChecksumMismatch):
        house.piece(10, 100)

    assert not house.is_stored()


def test_a_checksum_that_comes_with_a_question_counts(house: House) -> None:
    house.piece(0, 10)
    assert house.ask(wanted=whole_sum(b"another file")).offset == 10

    with pytest.raises(ChecksumMismatch):
        house.piece(10, 100)

    assert not house.is_stored()
