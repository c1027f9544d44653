"""Tokens of Prosody's mod_http_file_share: what is accepted, and every way to be refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import bearer, paths
from hmacfs.core.signature import Verdict
from tests.support import tokens, vectors

KEY = "a key of mod_http_file_share"
NOW = 1_700_000_000
PATH = "slot-1/picture.png"
SIZE = 7168
PNG = "image/png"


def judged(
    token: str,
    *,
    path: str = PATH,
    size: int = SIZE,
    types: tuple[str, ...] = (PNG,),
    now: float = NOW,
    keys: tuple[str, ...] = (KEY,),
    sent_type: bool = True,
) -> Verdict:
    slot = paths.parse(path.encode())
    return bearer.verify(token, [key.encode() for key in keys], slot, size, types, now, sent_type=sent_type)


def token(key: str = KEY, header: dict[str, Any] | None = None, **changed: Any) -> str:
    return tokens.jwt(key, tokens.slot_claims(PATH, SIZE, NOW, **{"filetype": PNG, **changed}), header)


def test_the_published_token_is_accepted_with_everything_it_says() -> None:
    (vector,) = [each for each in json.loads(vectors.FILE.read_text())["vectors"] if each["protocol"] == "jwt"]
    path = f"{vector['slot']}/{vector['filename']}"

    verdict = judged(vector["token"], path=path, now=vector["iat"], keys=(vector["secret"],))

    assert verdict == Verdict("ok", PNG, vector["sub"], vector["expires"])


def test_what_an_independent_program_signs_is_accepted() -> None:
    assert judged(token()) == Verdict("ok", PNG, "romeo@example.org", NOW + 86400)


def test_a_token_without_an_expiry_of_the_file_keeps_it_for_ever() -> None:
    verdict = judged(token(expires=None))

    assert verdict.ok
    assert verdict.file_expires_at == 0


@pytest.mark.parametrize(("end", "reason"), [(0, "expired"), (NOW - 1, "expired"), (NOW, "expired"), (NOW + 1, "ok")])
def test_a_file_that_would_be_over_at_once_is_not_admitted(end: int, reason: str) -> None:
    verdict = judged(token(expires=end))

    assert (verdict.reason, verdict.file_expires_at) == (reason, end)


def test_a_token_without_an_uploader_is_accepted() -> None:
    assert judged(token(sub=None)) == Verdict("ok", PNG, "", NOW + 86400)


@pytest.mark.parametrize("keys", [(KEY, "old"), ("old", KEY)])
def test_any_of_the_keys_verifies(keys: tuple[str, ...]) -> None:
    assert judged(token(), keys=keys).ok


def test_another_key_is_refused() -> None:
    assert judged(token("another key"), keys=(KEY, "old")).reason == "wrong"


def test_a_key_that_looks_like_a_certificate_verifies_nothing_and_breaks_nothing() -> None:
    pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"

    assert judged(token(), keys=(pem,)).reason == "wrong"
    assert judged(token(), keys=(pem, KEY)).ok


@pytest.mark.parametrize("name", ["none", "HS384", "HS512", "RS256", "hs256", "", None, 7])
def test_another_algorithm_than_hs256_is_refused(name: object) -> None:
    assert judged(token(header={"alg": name, "typ": "JWT"})).reason == "malformed"


def test_a_token_whose_signature_is_missing_is_refused() -> None:
    said = token().rpartition(".")[0]

    assert judged(said).reason == "malformed"
    assert judged(said + ".").reason == "wrong"


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "x", "é.é.é", "a" * 8000, "." * 100])
def test_what_is_no_token_is_malformed(text: str) -> None:
    assert judged(text).reason == "malformed"


@given(st.text(max_size=200))
def test_no_text_at_all_raises(text: str) -> None:
    assert judged(text).reason in ("malformed", "wrong")


@pytest.mark.parametrize("claims", [[], "text", 7, None, {}])
def test_claims_that_are_no_object_or_empty_are_refused(claims: object) -> None:
    assert not judged(tokens.jwt(KEY, claims)).ok


def test_a_deeply_nested_token_is_refused() -> None:
    said = tokens.encoded(json.dumps(tokens.HEADER).encode()) + b"." + tokens.encoded(b"[" * 100_000)

    assert judged(said.decode() + ".AAAA").reason in ("malformed", "wrong")


def test_every_changed_character_of_a_token_is_refused() -> None:
    said = token()

    for at in range(len(said) - 1):  # the last one of a base64 text has bits that say nothing
        changed = said[:at] + ("A" if said[at] != "A" else "B") + said[at + 1 :]
        assert not judged(changed).ok, at


@pytest.mark.parametrize(
    ("changed", "hint"),
    [
        ({"slot": "slot-2"}, "another slot"),
        ({"slot": None}, "another slot"),
        ({"slot": 1}, "another slot"),
        ({"filename": "picture.jpg"}, "file name"),
        ({"filename": None}, "file name"),
        ({"filesize": SIZE + 1}, "another size"),
        ({"filesize": str(SIZE)}, "another size"),
        ({"filesize": None}, "another size"),
        ({"filesize": True}, "another size"),
        ({"filetype": "image/jpeg"}, "another content type"),
        ({"filetype": "IMAGE/PNG"}, "another content type"),
    ],
)
def test_a_token_for_something_else_does_not_fit_and_says_why(changed: dict[str, Any], hint: str) -> None:
    verdict = judged(token(**changed))

    assert verdict.reason == "misfit"
    assert hint in verdict.hint


@pytest.mark.parametrize("path", ["slot-1", "slot-1/picture.png/more", "a/slot-1/picture.png", "slot-1/a/picture.png"])
def test_a_path_has_exactly_two_segments(path: str) -> None:
    assert judged(token(), path=path).reason == "misfit"


def test_a_slash_in_the_file_name_stands_for_no_segment() -> None:
    assert judged(token(filename="a/picture.png"), path="slot-1/a/picture.png").reason == "misfit"


def test_one_byte_is_a_size_and_true_is_none() -> None:
    claims = tokens.slot_claims(PATH, 1, NOW, filesize=True, filetype=PNG)

    assert judged(tokens.jwt(KEY, claims), size=1).reason == "misfit"


def test_a_request_without_a_type_takes_that_of_the_token() -> None:
    verdict = judged(token(), types=("application/octet-stream",), sent_type=False)

    assert verdict.ok
    assert verdict.content_type == PNG


def test_a_token_without_a_type_takes_that_of_the_request() -> None:
    assert judged(token(filetype=None), types=("video/mp4",)).content_type == "video/mp4"


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (NOW - bearer.SKEW - 1, "early"),
        (NOW - bearer.SKEW, "ok"),
        (NOW + 600 + bearer.SKEW, "ok"),
        (NOW + 600 + bearer.SKEW + 1, "expired"),
    ],
)
def test_times_are_judged_with_a_minute_of_skew(now: float, reason: str) -> None:
    assert judged(token(), now=now).reason == reason


def test_an_expired_token_still_tells_what_it_proves() -> None:
    assert judged(token(), now=NOW + 10_000) == Verdict("expired", PNG, "romeo@example.org", NOW + 86400)


@pytest.mark.parametrize("name", ["iat", "exp"])
@pytest.mark.parametrize("value", [None, "1700000000", True, -1, 1e300, [], {}])
def test_a_time_that_is_missing_or_no_number_is_malformed(name: str, value: object) -> None:
    assert judged(token(**{name: value})).reason == "malformed"


@pytest.mark.parametrize("value", ["soon", True, -1, 1e300, float("inf"), float("nan")])
def test_an_expiry_of_the_file_that_is_no_time_is_malformed(value: object) -> None:
    assert judged(token(expires=value)).reason == "malformed"


def test_whole_numbers_may_be_written_as_lua_writes_them() -> None:
    claims = tokens.slot_claims(PATH, SIZE, NOW, filetype=PNG, filesize=7168.0, expires=float(NOW + 5))

    assert judged(tokens.jwt(KEY, claims)) == Verdict("ok", PNG, "romeo@example.org", NOW + 5)


@pytest.mark.parametrize("value", ["a\nb", "a\0", "\ud800", "x" * (bearer.MAX_UPLOADER_BYTES + 1), 7, ["a"]])
def test_an_uploader_that_could_not_be_kept_is_malformed(value: object) -> None:
    assert judged(token(sub=value)).reason == "malformed"


@pytest.mark.parametrize("value", ["image/pñg", "a\r\nb", "x" * 256, 7])
def test_a_type_that_could_not_be_served_is_malformed(value: object) -> None:
    assert judged(token(filetype=value)).reason == "malformed"
