"""The header fields of tus 1.0.0 (protocol, section 5.2)."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import tus
from hmacfs.errors import BadChecksum, BadHeader

NAME = "Upload-Offset"
LARGEST = 10**18 - 1

keys = st.text(alphabet=[chr(code) for code in range(0x21, 0x7F) if chr(code) != ","], min_size=1, max_size=12)
pairs = st.dictionaries(keys, st.binary(max_size=70), max_size=12)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def written(metadata: dict[str, bytes]) -> str:
    return ",".join(f"{key} {encoded(value)}" if value else key for key, value in metadata.items())


def test_what_is_offered_is_what_the_protocol_promises() -> None:
    assert tus.VERSION == "1.0.0"
    assert tus.EXTENSIONS.split(",") == ["creation", "creation-with-upload", "expiration", "checksum", "termination"]
    assert tus.CHECKSUM_ALGORITHMS.split(",") == ["sha1", "sha256"]


# --- numbers ---


@pytest.mark.parametrize(("text", "expected"), [("0", 0), ("70", 70), ("007", 7), (str(LARGEST), LARGEST)])
def test_a_number_of_bytes_is_read(text: str, expected: int) -> None:
    assert tus.number(text, NAME) == expected


OTHER_NUMBERS = ["-1", "+1", "1.0", "1e3", "0x1", "1_0", "1,1", "1;a", "٣", "\u00b2", str(LARGEST + 1), "9" * 5000]


@pytest.mark.parametrize("text", ["", " ", " 1", "1 ", "1\n", "?1", *OTHER_NUMBERS])
def test_what_is_no_number_of_18_digits_is_refused(text: str) -> None:
    with pytest.raises(BadHeader) as caught:
        tus.number(text, NAME)

    assert caught.value.detail.startswith(NAME)


@given(st.integers(0, LARGEST))
def test_every_number_is_read_as_it_was_written(number: int) -> None:
    assert tus.number(str(number), NAME) == number


# --- metadata ---


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        # The example of the specification.
        (
            "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential",
            {"filename": b"world_domination_plan.pdf", "is_confidential": b""},
        ),
        ("key YQ==,key2 Yg==, key3", {"key": b"a", "key2": b"b", "key3": b""}),
        ("key ", {"key": b""}),
        ("key ,key2 Yg==", {"key": b"", "key2": b"b"}),
        (" key YQ== \t,\tkey2 Yg== ", {"key": b"a", "key2": b"b"}),
        ("key,Key", {"key": b"", "Key": b""}),
        ("k=e;y:\"' YQ==", {"k=e;y:\"'": b"a"}),
        ("blob AP8=", {"blob": b"\x00\xff"}),
    ],
)
def test_metadata_are_pairs_of_a_key_and_bytes(header: str, expected: dict[str, bytes]) -> None:
    assert tus.metadata(header) == expected


@pytest.mark.parametrize("header", ["", " ", "\t"])
def test_an_empty_field_has_no_pairs_because_tuspy_sends_one(header: str) -> None:
    assert tus.metadata(header) == {}


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        (",", "key"),
        ("a YQ==,", "key"),
        (",a YQ==", "key"),
        ("a YQ==,,b", "key"),
        ("a\tYQ==", "key"),
        ("\u00e4 YQ==", "key"),
        ("a\x00", "key"),
        ("a\x7f", "key"),
        ("a\n YQ==", "key"),
        ("a YQ", "base64"),
        ("a YQ=", "base64"),
        ("a YQ===", "base64"),
        ("a Y", "base64"),
        ("a YQ==YQ==", "base64"),
        ("a Y_-=", "base64"),
        ("a  YQ==", "base64"),
        ("a YQ== b", "base64"),
        ("a Y\tQ==", "base64"),
        ("a YQ==\n", "base64"),
        ("a \u00e4", "base64"),
        ("a YQ==,a YQ==", "repeats"),
        ("a,b,a", "repeats"),
    ],
)
def test_malformed_metadata_are_refused_and_the_log_learns_why(header: str, detail: str) -> None:
    with pytest.raises(BadHeader) as caught:
        tus.metadata(header)

    assert detail in caught.value.detail


def test_a_hundred_pairs_are_read_and_one_more_is_refused() -> None:
    hundred = {f"key{number}": b"x" for number in range(100)}

    assert tus.metadata(written(hundred)) == hundred
    with pytest.raises(BadHeader) as caught:
        tus.metadata(written({**hundred, "more": b""}))

    assert "100 pairs" in caught.value.detail


def test_8_kib_of_values_are_read_and_one_byte_more_is_refused() -> None:
    exactly = {"a": b"x" * 8000, "b": b"y" * 192}

    assert tus.metadata(written(exactly)) == exactly
    with pytest.raises(BadHeader) as caught:
        tus.metadata(written({**exactly, "c": b"z"}))

    assert "8192 bytes" in caught.value.detail


def test_a_field_of_more_than_16_kib_is_refused_however_little_it_says() -> None:
    assert tus.metadata("k" * 16384) == {"k" * 16384: b""}

    with pytest.raises(BadHeader) as caught:
        tus.metadata("k" * 16385)

    assert "16384 characters" in caught.value.detail


@given(pairs)
def test_metadata_are_read_as_they_were_written(metadata: dict[str, bytes]) -> None:
    read = tus.metadata(written(metadata))

    assert read == metadata
    assert list(read) == list(metadata)


# --- the type ---


@pytest.mark.parametrize("text", ["image/jpeg", "text/plain; charset=utf-8", "x" * 255])
def test_the_type_is_the_value_of_filetype(text: str) -> None:
    metadata = tus.metadata(written({"filename": b"a.jpg", "filetype": text.encode()}))

    assert tus.file_type(metadata) == text


@pytest.mark.parametrize("header", ["", "filename YQ==", "filetype", "filetype ", "Filetype YQ=="])
def test_without_a_filetype_no_type_is_declared(header: str) -> None:
    assert tus.file_type(tus.metadata(header)) == ""


@pytest.mark.parametrize(
    "value", [b"text/plain\r\nX-Evil: 1", b"a\x00b", b"\xc3\xa4/b", b"\xff", b"\x80", b"a\x7f", b"x" * 256]
)
def test_a_type_that_no_content_type_may_be_is_refused(value: bytes) -> None:
    with pytest.raises(BadHeader):
        tus.file_type({"filetype": value})


# --- the checksum of a piece ---


def test_a_checksum_is_an_algorithm_and_a_digest() -> None:
    assert tus.upload_checksum("sha1 AQI=") == ("sha1", b"\x01\x02")
    assert tus.upload_checksum(" crc32c AQI=\t") == ("crc32c", b"\x01\x02")


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        ("", "malformed"),
        ("sha1", "malformed"),
        ("sha1 ", "malformed"),
        (" AQI=", "malformed"),
        ("SHA1 AQI=", "malformed"),
        ("sha1=AQI=", "malformed"),
        ("sha1\tAQI=", "malformed"),
        ("sh\u00e41 AQI=", "malformed"),
        (f"{'s' * 33} AQI=", "malformed"),
        ("sha1  AQI=", "base64"),
        ("sha1 AQI", "base64"),
        ("sha1 AQI= AQI=", "base64"),
        ("sha1 AQI=,sha256 AQI=", "base64"),
        ("sha1 0102-_==", "base64"),
        ("sha1 \u00e4", "base64"),
    ],
)
def test_a_malformed_checksum_is_refused_and_the_log_learns_why(header: str, detail: str) -> None:
    with pytest.raises(BadChecksum) as caught:
        tus.upload_checksum(header)

    assert detail in caught.value.detail


# --- anything ---


@given(st.text(max_size=60) | st.text(alphabet="abYQ=, \t\u00e4", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read, error in (
        (lambda: tus.number(text, NAME), BadHeader),
        (lambda: tus.file_type(tus.metadata(text)), BadHeader),
        (lambda: tus.upload_checksum(text), BadChecksum),
    ):
        try:
            read()
        except error:
            pass


@given(st.binary(max_size=300))
def test_any_bytes_are_a_type_or_refused(value: bytes) -> None:
    try:
        found = tus.file_type({"filetype": value})
    except BadHeader:
        return

    assert found.encode("ascii") == value
    assert len(found) <= 255
