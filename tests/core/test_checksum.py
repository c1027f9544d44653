"""Checksums of uploads, driven by the vectors of tests/vectors (protocol, section 5.4)."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import checksum, structured, tus
from hmacfs.core.checksum import Expected, Hasher, Wanted
from hmacfs.errors import BadChecksum, ChecksumMismatch

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "checksums.json").read_text(encoding="utf-8")
)
PIECE_FIELDS = {"Content-Digest", "Upload-Checksum"}
ALGORITHMS = ("md5", "sha1", "sha-256", "sha-512")
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def name(vector: dict[str, Any]) -> str:
    return f"{vector['field']}-{vector.get('source') or vector['why']}"


each_verified = pytest.mark.parametrize("vector", VECTORS["verified"], ids=name)
each_read = pytest.mark.parametrize("vector", VECTORS["read"], ids=name)
each_refused = pytest.mark.parametrize("vector", VECTORS["refused"], ids=name)


def expected_by(field: str, value: str) -> tuple[Expected, ...]:
    """What one field asks for; and that it asks for it on its own side alone."""
    wanted = checksum.wanted({field: value})
    asked, other = (wanted.piece, wanted.whole) if field in PIECE_FIELDS else (wanted.whole, wanted.piece)
    assert other == ()
    return asked


def hashed(content: bytes, algorithms: frozenset[str] | tuple[str, ...] = ALGORITHMS) -> Hasher:
    hasher = Hasher(algorithms)
    hasher.update(content)
    return hasher


def digest(algorithm: str, content: bytes) -> bytes:
    return hashlib.new(algorithm.replace("-", ""), content).digest()


def value_of(field: str, algorithm: str, content: bytes) -> str:
    """The field as a client would write it, by other means than ours."""
    output = base64.b64encode(digest(algorithm, content)).decode("ascii")
    return {
        "X-Checksum": digest(algorithm, content).hex(),
        "Repr-Digest": f"{algorithm}=:{output}:",
        "Content-Digest": f"{algorithm}=:{output}:",
        "Digest": f"{'SHA' if algorithm == 'sha1' else algorithm}={output}",
        "Content-MD5": output,
        "Upload-Checksum": f"{algorithm.replace('-', '')} {output}",
    }[field]


FIELDS_AND_ALGORITHMS = [
    ("X-Checksum", "sha-256"),
    ("Repr-Digest", "sha-256"),
    ("Repr-Digest", "sha-512"),
    ("Content-Digest", "sha-256"),
    ("Content-Digest", "sha-512"),
    ("Digest", "md5"),
    ("Digest", "sha1"),
    ("Digest", "sha-256"),
    ("Digest", "sha-512"),
    ("Content-MD5", "md5"),
    ("Upload-Checksum", "sha1"),
    ("Upload-Checksum", "sha-256"),
]


# --- the vectors ---


def test_the_vectors_cover_every_field() -> None:
    for kind in ("verified", "refused"):
        assert {vector["field"] for vector in VECTORS[kind]} == set(checksum.FIELDS)


@each_verified
def test_content_that_has_its_checksum_is_verified(vector: dict[str, Any]) -> None:
    expected = expected_by(vector["field"], vector["value"])

    hashed(vector["content"].encode(), checksum.algorithms(expected)).verify(expected)

    assert [one.algorithm for one in expected] == vector["algorithms"]


@each_verified
def test_content_that_differs_in_one_byte_is_a_mismatch(vector: dict[str, Any]) -> None:
    expected = expected_by(vector["field"], vector["value"])
    hasher = hashed(vector["content"].encode() + b"\0", checksum.algorithms(expected))

    with pytest.raises(ChecksumMismatch) as caught:
        hasher.verify(expected)

    assert (caught.value.status, caught.value.code) == (400, "checksum-mismatch")


@each_read
def test_an_example_without_its_content_is_read(vector: dict[str, Any]) -> None:
    expected = expected_by(vector["field"], vector["value"])

    assert [[one.algorithm, one.digest.hex()] for one in expected] == vector["digests"]


@each_refused
def test_a_field_that_cannot_be_verified_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(BadChecksum) as caught:
        checksum.wanted({vector["field"]: vector["value"]})

    assert (caught.value.status, caught.value.code) == (400, "bad-checksum")
    assert caught.value.detail.startswith(vector["field"])


# --- what a request wants ---


class CountedLooks(Mapping[str, str]):
    """Header fields, and which were asked for."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields
        self.looks: list[str] = []

    def __getitem__(self, field: str) -> str:
        self.looks.append(field)
        return self.fields[field]

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("every header was walked over")

    def __len__(self) -> int:
        return len(self.fields)


def test_a_request_without_checksums_wants_nothing_after_one_look_for_each_field() -> None:
    headers = CountedLooks({"Content-Type": "text/plain", "ETag": "x"})

    wanted = checksum.wanted(headers)

    assert wanted is checksum.NOTHING
    assert wanted == Wanted((), ())
    assert sorted(headers.looks) == sorted(checksum.FIELDS)


def test_every_field_counts_on_its_own_side() -> None:
    headers = {
        field: value_of(field, algorithm, b"content")
        for field, algorithm in FIELDS_AND_ALGORITHMS
        if algorithm != "sha-512"
    }

    wanted = checksum.wanted(headers)

    assert [one.algorithm for one in wanted.whole] == ["sha-256", "sha-256", "sha-256", "md5"]
    assert [one.algorithm for one in wanted.piece] == ["sha-256", "sha-256"]
    assert checksum.algorithms(wanted.whole) == {"sha-256", "md5"}
    assert checksum.algorithms(()) == frozenset()


def test_two_fields_that_contradict_each_other_cannot_both_hold() -> None:
    headers = {
        "X-Checksum": value_of("X-Checksum", "sha-256", b"one"),
        "Repr-Digest": value_of("Repr-Digest", "sha-256", b"two"),
    }

    wanted = checksum.wanted(headers)

    for content in (b"one", b"two"):
        with pytest.raises(ChecksumMismatch):
            hashed(content).verify(wanted.whole)


def test_one_bad_field_spoils_the_good_ones() -> None:
    headers = {"X-Checksum": value_of("X-Checksum", "sha-256", b""), "Upload-Checksum": "sha1"}

    with pytest.raises(BadChecksum):
        checksum.wanted(headers)


def test_of_several_digests_each_one_must_hold() -> None:
    good, bad = (value_of("Digest", algorithm, b"content") for algorithm in ("sha-256", "md5"))
    other = value_of("Digest", "md5", b"other")

    hashed(b"content").verify(expected_by("Digest", f"{good}, {bad}"))
    with pytest.raises(ChecksumMismatch) as caught:
        hashed(b"content").verify(expected_by("Digest", f"{good}, {bad}, {other}"))

    assert caught.value.detail == "the md5 digest differs"


@pytest.mark.parametrize("field", checksum.FIELDS)
def test_a_field_without_end_is_refused(field: str) -> None:
    for value in ("a" * 100_000, "a=," * 40_000, "sha1 " + "A" * 100_000, "sha-256=:" + "A" * 100_000 + ":"):
        with pytest.raises(BadChecksum):
            checksum.wanted({field: value})


def test_many_digests_of_one_field_are_bounded() -> None:
    one = value_of("Digest", "md5", b"")

    hashed(b"").verify(expected_by("Digest", ",".join([one] * 200)))
    with pytest.raises(BadChecksum) as caught:
        checksum.wanted({"Digest": ",".join([one] * 400)})

    assert "8192 characters" in caught.value.detail


def test_what_tus_is_offered_is_what_we_verify() -> None:
    for algorithm in tus.CHECKSUM_ALGORITHMS.split(","):
        output = base64.b64encode(hashlib.new(algorithm, b"x").digest()).decode("ascii")

        expected = expected_by("Upload-Checksum", f"{algorithm} {output}")

        hashed(b"x").verify(expected)


@given(st.sampled_from(FIELDS_AND_ALGORITHMS), st.binary(max_size=100))
def test_a_digest_is_read_as_it_was_written(field_and_algorithm: tuple[str, str], content: bytes) -> None:
    field, algorithm = field_and_algorithm

    expected = expected_by(field, value_of(field, algorithm, content))

    assert expected == (Expected(algorithm, digest(algorithm, content)),)


fragments = st.sampled_from(
    ["sha-256", "SHA", "md5", "sha1", "sha256", "=", "=:", ":", ",", " ", "AQ==", "a" * 64, "A" * 43 + "=", ";a=1"]
)
any_text = st.text(max_size=80) | st.lists(fragments, max_size=8).map("".join)


@given(st.dictionaries(st.sampled_from(checksum.FIELDS), any_text, max_size=6))
def test_any_text_is_read_or_refused(headers: dict[str, str]) -> None:
    try:
        wanted = checksum.wanted(headers)
    except BadChecksum:
        return

    for one in (*wanted.whole, *wanted.piece):
        assert len(one.digest) == len(digest(one.algorithm, b""))
    assert bool(wanted.whole or wanted.piece) is bool(headers)


# --- hashing ---


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_blocks_are_hashed_as_if_they_were_one(blocks: list[bytes]) -> None:
    hasher = Hasher(ALGORITHMS)
    content = b"".join(blocks)

    for block in blocks:
        hasher.update(memoryview(block))

    assert hasher.digests() == {algorithm: digest(algorithm, content) for algorithm in ALGORITHMS}
    assert hasher.sha256_hex() == hashlib.sha256(content).hexdigest()


def test_a_part_of_a_buffer_that_is_used_again_is_hashed_as_it_was() -> None:
    hasher, buffer = Hasher(["sha-256"]), bytearray(8)

    for block in (b"hello wo", b"rld"):
        buffer[: len(block)] = block
        hasher.update(memoryview(buffer)[: len(block)])

    assert hasher.digests() == {"sha-256": digest("sha-256", b"hello world")}


def test_digests_may_be_asked_for_in_between() -> None:
    hasher = hashed(b"hello")
    before = hasher.digests()

    hasher.update(b" world")

    assert before["md5"] == digest("md5", b"hello")
    assert hasher.digests()["md5"] == digest("md5", b"hello world")


def test_uploads_that_are_hashed_at_once_by_a_pool_of_threads_do_not_mix() -> None:
    contents = [bytes([number]) * 200_000 for number in range(8)]
    hashers = [Hasher(ALGORITHMS) for _ in contents]

    with ThreadPoolExecutor(4) as pool:
        for start in range(0, 200_000, 50_000):
            blocks = [memoryview(content)[start : start + 50_000] for content in contents]
            list(pool.map(Hasher.update, hashers, blocks))

    assert [hasher.sha256_hex() for hasher in hashers] == [hashlib.sha256(each).hexdigest() for each in contents]


def test_without_sha_256_there_is_none_to_store() -> None:
    assert hashed(b"x", ("md5", "sha-512")).sha256_hex() is None
    assert Hasher(()).sha256_hex() is None


def test_a_hasher_without_algorithms_takes_everything_and_says_nothing() -> None:
    hasher = hashed(b"x" * 1000, ())

    hasher.verify(())

    assert hasher.digests() == {}


def test_an_algorithm_of_a_caller_s_mistake_is_no_fault_of_the_client() -> None:
    with pytest.raises(KeyError):
        Hasher(["sha256"])
    with pytest.raises(KeyError):
        hashed(b"", ("md5",)).verify([Expected("sha1", bytes(20))])


def test_neither_a_mismatch_nor_a_repr_tells_a_digest() -> None:
    expected = expected_by("X-Checksum", value_of("X-Checksum", "sha-256", b"private"))

    with pytest.raises(ChecksumMismatch) as caught:
        hashed(b"other").verify(expected)

    assert caught.value.detail == "the sha-256 digest differs"
    for text in (str(caught.value), caught.value.sentence, repr(expected), repr(checksum.wanted({}))):
        assert digest("sha-256", b"private").hex() not in text
        assert repr(digest("sha-256", b"private"))[2:12] not in text


# --- for answers ---


def test_repr_digest_of_a_stored_sha_256_is_written_as_in_rfc_9530() -> None:
    assert checksum.repr_digest(EMPTY_SHA256) == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
    assert checksum.repr_digest(EMPTY_SHA256.upper()) == checksum.repr_digest(EMPTY_SHA256)


@given(st.binary(max_size=100))
def test_the_repr_digest_that_we_write_is_one_that_we_verify(content: bytes) -> None:
    hasher = hashed(content, ("sha-256",))
    stored = hasher.sha256_hex()
    assert stored is not None

    value = checksum.repr_digest(stored)

    hasher.verify(expected_by("Repr-Digest", value))
    assert structured.byte_sequences(value, "Repr-Digest") == hasher.digests()


@pytest.mark.parametrize("text", ["", EMPTY_SHA256[1:], EMPTY_SHA256 + "0", " " + EMPTY_SHA256[1:], "g" * 64])
def test_what_is_no_sha_256_is_not_written(text: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        checksum.repr_digest(text)
