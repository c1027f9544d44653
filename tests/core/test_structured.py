"""Structured fields (RFC 9651): integers, booleans, dictionaries of byte sequences; Upload-Limit as we write it."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import structured
from hmacfs.errors import BadHeader

NAME = "Some-Field"
LARGEST = 999_999_999_999_999

keys = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,20}", fullmatch=True)
dictionaries = st.dictionaries(keys, st.binary(max_size=80), max_size=6)

# One parameter of each type of RFC 9651 section 3.3, and of none.
PARAMETERS = [
    ";a",
    ";a=1",
    ";a=-1",
    ";a=1.5",
    ";a=tok/en:x",
    ";a=*",
    ';a="x;y, \\"z\\" \\\\"',
    ";a=:AQI=:",
    ";a=::",
    ";a=?0",
    ";a=@1659578233",
    ';a=%"f%c3%bc%c3%bc"',
    ";  a=1;*b-c.d_e=2",
    ";a=1;a=2",
]
BAD_PARAMETERS = [
    ";",
    ";A=1",
    ";1=1",
    ";a=",
    ";a= 1",
    ";a =1",
    " ;a=1",
    "; a=1;",
    ";\ta=1",
    ";a=1.",
    ";a=1.2345",
    ";a=1234567890123456",
    ';a="open',
    ';a="\\n"',
    ';a="\u00fc"',
    ";a=:AQI=",
    ";a=?2",
    ";a=@1.5",
    ';a=%"%C3"',
    ";a=(1 2)",
    ";a=1,",
]


# --- integers ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("8", 8), ("007", 7), ("  42  ", 42), (str(LARGEST), LARGEST), ("000000000000000", 0)],
)
def test_an_integer_is_read(text: str, expected: int) -> None:
    assert structured.integer(text, NAME) == expected


OTHER_TYPES = ["1.0", "?1", '"1"', ":MQ==:", "one", "@1", "(1)", "1,2", "1, 1"]
OTHER_NUMBERS = ["-1", "-0", "+1", "1e3", "0x1", "1_0", "1 2", "٣", "\u00b2", "1000000000000000", "9" * 5000]


@pytest.mark.parametrize("text", ["", " ", "\t1", "1\n", *OTHER_TYPES, *OTHER_NUMBERS])
def test_what_is_no_non_negative_integer_of_15_digits_is_refused(text: str) -> None:
    with pytest.raises(BadHeader) as caught:
        structured.integer(text, NAME)

    assert caught.value.detail.startswith(NAME)


@given(st.integers(0, LARGEST))
def test_every_integer_is_read_as_it_was_written(number: int) -> None:
    assert structured.integer(str(number), NAME) == number


# --- booleans ---


@pytest.mark.parametrize(("text", "expected"), [("?1", True), ("?0", False), (" ?1 ", True)])
def test_a_boolean_is_read(text: str, expected: bool) -> None:
    assert structured.boolean(text, NAME) is expected


@pytest.mark.parametrize("text", ["", "?", "1", "true", "?2", "?01", "? 1", "?1, ?1", "?T", "?1\n", "?\u0661"])
def test_what_is_no_boolean_is_refused(text: str) -> None:
    with pytest.raises(BadHeader) as caught:
        structured.boolean(text, NAME)

    assert caught.value.detail.startswith(NAME)


# --- parameters ---


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_parameters_are_ignored(parameters: str) -> None:
    assert structured.integer(f"5{parameters}", NAME) == 5
    assert structured.boolean(f"?1{parameters}", NAME) is True
    assert structured.byte_sequences(f"a=:AQI=:{parameters}, b=:AQ==:{parameters}", NAME) == {
        "a": b"\x01\x02",
        "b": b"\x01",
    }


@pytest.mark.parametrize("parameters", BAD_PARAMETERS)
def test_malformed_parameters_spoil_the_field(parameters: str) -> None:
    for read, value in (
        (structured.integer, "5"),
        (structured.boolean, "?1"),
        (structured.byte_sequences, "a=:AQI=:"),
    ):
        with pytest.raises(BadHeader):
            read(value + parameters, NAME)


# --- dictionaries of byte sequences ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("  ", {}),
        ("a=:aGVsbG8=:", {"a": b"hello"}),
        ("a=::", {"a": b""}),
        ("a=:/+Ah:", {"a": b"\xff\xe0!"}),
        ("a=:AQ==:,b=:Ag==:", {"a": b"\x01", "b": b"\x02"}),
        ("a=:AQ==: \t,\t b=:Ag==:", {"a": b"\x01", "b": b"\x02"}),
        ("  *a-b.c_d*9=:AQ==:  ", {"*a-b.c_d*9": b"\x01"}),
        ("a=:AQ==:, a=:Ag==:", {"a": b"\x02"}),
    ],
)
def test_a_dictionary_is_read_and_of_a_repeated_key_the_last_counts(text: str, expected: dict[str, bytes]) -> None:
    assert structured.byte_sequences(text, NAME) == expected


@pytest.mark.parametrize("text", ["a=:aGVsbG8:", "a=:aGVsbG9=:"])
def test_missing_padding_and_unused_bits_are_forgiven(text: str) -> None:
    assert structured.byte_sequences(text, NAME) == {"a": b"hello"}


OTHER_VALUES = ["a", "a=1", "a=?1", "a=tok", 'a="AQ=="', "a=(:AQ==:)", "a=AQ==", "a=:AQ==", "a=AQ==:"]
BAD_KEYS = ["=:AQ==:", "A=:AQ==:", "1=:AQ==:", "sha/256=:AQ==:", "a =:AQ==:", "a= :AQ==:", "\u00e4=:AQ==:"]
BAD_LISTS = ["a=:AQ==:,", ",a=:AQ==:", "a=:AQ==:,,b=:AQ==:", "a=:AQ==: b=:AQ==:", "a=:AQ==:\n", "a=:AQ==:, b"]
BAD_BASE64 = ["a=:A Q==:", "a=:AQ==AQ==:", "a=:=:", "a=:====:", "a=:A:", "a=:AQ-_:", "a=:AQ==\u00e4:", "a=:A=Q=:"]


@pytest.mark.parametrize("text", [*OTHER_VALUES, *BAD_KEYS, *BAD_LISTS, *BAD_BASE64])
def test_what_is_no_dictionary_of_byte_sequences_is_refused(text: str) -> None:
    with pytest.raises(BadHeader) as caught:
        structured.byte_sequences(text, NAME)

    assert caught.value.detail.startswith(NAME)


@given(dictionaries)
def test_a_dictionary_is_read_as_it_was_written(members: dict[str, bytes]) -> None:
    assert structured.byte_sequences(structured.serialise_bytes(members), NAME) == members


def test_a_dictionary_is_written_as_in_the_rfc() -> None:
    text = structured.serialise_bytes({"sha-256": b"\x01", "sha-512": b"\x02\x03"})

    assert text == "sha-256=:AQ==:, sha-512=:AgM=:"


@pytest.mark.parametrize("key", ["", "A", "1", "a b", "a=", "a\n", "\u00e4"])
def test_a_key_that_no_field_can_carry_is_not_written(key: str) -> None:
    with pytest.raises(ValueError, match="structured dictionary"):
        structured.serialise_bytes({key: b""})
    with pytest.raises(ValueError, match="structured dictionary"):
        structured.serialise_integers({key: 0})


# --- dictionaries of integers ---


def test_upload_limit_is_written_as_a_dictionary_of_integers() -> None:
    text = structured.serialise_integers({"max-size": 1073741824, "min-size": 0, "max-age": 86400})

    assert text == "max-size=1073741824, min-size=0, max-age=86400"


def test_a_dictionary_without_members_is_an_empty_text() -> None:
    assert structured.serialise_integers({}) == ""
    assert structured.serialise_bytes({}) == ""


@pytest.mark.parametrize("number", [LARGEST + 1, -LARGEST - 1])
def test_a_number_that_no_field_can_carry_is_not_written(number: int) -> None:
    assert structured.serialise_integers({"a": LARGEST, "b": -LARGEST}) == f"a={LARGEST}, b=-{LARGEST}"

    with pytest.raises(ValueError, match="structured dictionary"):
        structured.serialise_integers({"a": number})


# --- base64 ---


@given(st.binary(max_size=100))
def test_base64_is_read_and_written_as_everybody_does(content: bytes) -> None:
    text = base64.b64encode(content).decode("ascii")

    assert structured.encode_base64(content) == text
    assert structured.decode_base64(text) == content


@given(st.text(alphabet="AQaz09+/=-_ \n\u00e4", max_size=12) | st.text(max_size=12))
def test_base64_is_padded_and_of_the_standard_alphabet_or_refused(text: str) -> None:
    whole = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")

    try:
        structured.decode_base64(text)
        accepted = True
    except ValueError:
        accepted = False

    assert accepted is bool(whole.fullmatch(text))


# --- anything ---


@pytest.mark.parametrize(
    ("short", "long"),
    [("5;a", "a"), ('5;a="', ";"), ("5", ";a"), ("5;a=:", "A"), ('5;a=%"', "%c3"), ("5;a=", "1"), ("5", " ")],
)
def test_a_field_without_end_is_refused(short: str, long: str) -> None:
    with pytest.raises(BadHeader):
        structured.integer(short + long * 10_000, NAME)
    with pytest.raises(BadHeader):
        structured.boolean("?1" + short[1:] + long * 10_000, NAME)
    with pytest.raises(BadHeader):
        structured.byte_sequences("a=:AQ==:" + short[1:] + long * 10_000, NAME)


@given(st.text(max_size=60) | st.text(alphabet='?01a=:;, AQ"%*\\\t', max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (structured.integer, structured.boolean, structured.byte_sequences):
        try:
            read(text, NAME)
        except BadHeader:
            pass
