"""Receiving a file: its type, what a refusal hints at, and what the catalogue is told."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core import paths
from hmacfs.core.signature import Claim, Protocol
from hmacfs.errors import BadSignature, FileExists, StateUnavailable, Truncated
from hmacfs.services.authority import UploadRequest
from hmacfs.services.secrets import Keyring
from hmacfs.state.base import FileRow
from hmacfs.storage.base import Metadata
from tests.services.uploading import SECRET, WRONG, House, ScriptedBody, Silence, opened, request, v2_claim, v_claim
from tests.support.polling import until


@pytest.fixture(params=["small", "large"])
def house(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Every file goes the way of small ones, or the way of large ones."""
    with opened(tmp_path / "store", monkeypatch, is_small=request.param == "small") as built:
        yield built


# --- types ---


@pytest.mark.parametrize("protocol", [Protocol.V2, Protocol.TOKEN])
def test_a_signature_over_the_declared_type_is_accepted_and_the_type_stored(house: House, protocol: Protocol) -> None:
    claim = Claim(protocol, v2_claim("a/b.txt", 5, "Image/PNG; x=y").mac)

    house.uploads().receive(request(5, claim=claim, content_type="Image/PNG; x=y"), ScriptedBody(b"hello"))

    stored = house.storage.open(paths.parse(b"a/b.txt"), with_content=False)
    assert stored.metadata == Metadata("Image/PNG; x=y")
    stored.close()


@pytest.mark.parametrize("signed", ["text/plain", "text/plain; charset=utf-8"])
def test_a_signature_by_extension_is_refused_unless_it_is_switched_on(house: House, signed: str) -> None:
    asked = request(5, claim=v2_claim("a/b.txt", 5, signed), content_type="application/octet-stream", sent_type=False)

    with pytest.raises(BadSignature) as caught:
        house.uploads().receive(asked, ScriptedBody(b"hello"))
    assert any("ContentTypeFromExtension" in hint for hint in caught.value.hints)

    house.uploads(type_from_extension=True).receive(asked, ScriptedBody(b"hello"))
    stored = house.storage.open(paths.parse(b"a/b.txt"), with_content=False)
    assert stored.metadata == Metadata(signed)
    stored.close()


def test_the_declared_type_counts_before_the_extension(house: House) -> None:
    asked = request(5, claim=v2_claim("a/b.txt", 5, "x/y"), content_type="x/y")

    house.uploads(type_from_extension=True).receive(asked, ScriptedBody(b"hello"))

    stored = house.storage.open(paths.parse(b"a/b.txt"), with_content=False)
    assert stored.metadata == Metadata("x/y")
    stored.close()


# --- hints ---


def hints_for(house: House, asked: UploadRequest) -> str:
    with pytest.raises(BadSignature) as caught:
        house.uploads().receive(asked, ScriptedBody())
    return " | ".join(caught.value.hints)


def test_a_hint_tells_of_a_prefix_that_stands_twice(house: House) -> None:
    assert "prefix twice" in hints_for(house, request(5, path="upload/a/b.txt", claim=WRONG))


def test_a_hint_tells_of_a_prefix_that_was_signed(house: House) -> None:
    assert "signs the URL prefix" in hints_for(house, request(5, claim=v_claim("upload/a/b.txt", 5)))


def test_a_hint_tells_that_no_content_type_was_sent(house: House) -> None:
    wrong = Claim(Protocol.V2, "0" * 64)

    assert "no Content-Type header was sent" in hints_for(house, request(5, claim=wrong, sent_type=False))
    assert "no Content-Type header was sent" not in hints_for(house, request(5, claim=wrong))


def test_a_hint_tells_of_a_v_signature_in_another_parameter(house: House) -> None:
    claim = Claim(Protocol.V2, v_claim("a/b.txt", 5).mac)

    assert "protocol v " in hints_for(house, request(5, claim=claim))


def test_neither_the_refusal_nor_the_request_shows_a_mac(house: House) -> None:
    asked = request(5, claim=v_claim("upload/a/b.txt", 5))
    assert asked.claim is not None

    with pytest.raises(BadSignature) as caught:
        house.uploads().receive(asked, ScriptedBody())

    for text in (repr(asked), str(caught.value), repr(caught.value), repr(caught.value.hints)):
        assert asked.claim.mac not in text
        assert SECRET not in text


def test_a_keyring_shows_no_secret() -> None:
    ring = Keyring(SECRET)

    assert ring.keys == (SECRET.encode(),)
    assert SECRET not in repr(ring) + str(ring)


def test_a_key_is_the_utf_8_bytes_of_the_secret() -> None:
    assert Keyring("sécret").keys == ("sécret".encode(),)


def test_existence_is_told_before_a_broken_small_body(house: House) -> None:
    house.put("a/b.txt", b"first")

    with pytest.raises(FileExists):
        house.uploads().receive(request(5), ScriptedBody(b"hel"))


def test_bytes_that_end_a_silence_count_before_the_rate_is_judged(house: House) -> None:
    script: list[Any] = []
    for _ in range(8):
        script += [Silence(10.0), bytes(125)]  # 12.5 bytes a second all the time

    house.uploads(min_rate=12).receive(request(1000), house.body(*script))

    assert (house.store / "a/b.txt").stat().st_size == 1000


# --- the catalogue ---


def test_a_stored_file_is_left_to_the_recorder(house: House) -> None:
    house.uploads().receive(request(5, path="a/ä b.txt"), ScriptedBody(b"hello"))

    house.recorder.flush()
    stored_us = (house.store / "a/ä b.txt").stat().st_mtime_ns // 1000
    assert house.tier.list_files("", 10) == [FileRow("a/ä b.txt", 5, "text/plain", "", "", stored_us, 0)]


def test_the_type_that_the_signature_proves_is_recorded(house: House) -> None:
    asked = request(5, path="a/b.jpg", claim=v2_claim("a/b.jpg", 5, "image/jpeg"), sent_type=False)

    house.uploads(type_from_extension=True).receive(asked, ScriptedBody(b"hello"))

    house.recorder.flush()
    (row,) = house.tier.list_files("", 10)
    assert row.content_type == "image/jpeg"


@pytest.mark.parametrize("body", [ScriptedBody(b"hel"), ScriptedBody(Truncated())])
def test_what_was_not_stored_is_not_recorded(house: House, body: ScriptedBody) -> None:
    with pytest.raises(Truncated):
        house.uploads().receive(request(5), body)

    assert house.recorder.queued == 0


def test_an_upload_makes_no_round_trip_to_a_tier(house: House) -> None:
    house.recorder.start()
    for number in range(600):  # more than one batch: none is written by the upload that fills it
        house.uploads().receive(request(5, path=f"a/{number}"), ScriptedBody(b"hello"))
    until(lambda: not house.recorder.queued, "all is recorded")
    house.recorder.stop()

    assert house.tier.threads
    assert threading.get_ident() not in house.tier.threads


def test_an_upload_is_stored_while_no_tier_works(house: House) -> None:
    def fail(_rows: object) -> None:
        raise StateUnavailable

    house.tier.record_files = fail  # type: ignore[assignment]
    house.uploads().receive(request(5), ScriptedBody(b"hello"))

    house.recorder.flush()
    assert house.files() == {"a/b.txt": b"hello"}
    assert house.recorder.dropped == 1
