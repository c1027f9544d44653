"""Signatures, driven by the vectors of tests/vectors (protocol, section 2)."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import signature
from hmacfs.core.signature import Claim, Protocol

ALL: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "signatures.json").read_text(encoding="utf-8")
)["vectors"]
VECTORS = [vector for vector in ALL if vector["protocol"] in ("v", "v2", "token")]
FOREIGN = [vector for vector in ALL if vector["protocol"] in ("token-delete", "v3")]
KEY = b"secret string"
JPEG = "image/jpeg"


def name(vector: dict[str, Any]) -> str:
    return f"{vector['protocol']}-{vector['path'].rpartition('/')[2]}-{vector.get('type', '')}"


each_vector = pytest.mark.parametrize("vector", VECTORS, ids=name)
each_typed_vector = pytest.mark.parametrize("vector", [v for v in VECTORS if "type" in v], ids=name)


def reason(vector: dict[str, Any], **changed: Any) -> str:
    """The verdict on a vector with some of its values changed."""
    asked = {"type": JPEG, **vector, **changed}
    claim = Claim(Protocol(asked["protocol"]), asked["hex"])
    path = asked["path"] if isinstance(asked["path"], bytes) else asked["path"].encode()
    return signature.verify(claim, [asked["secret"].encode()], path, asked["size"], [asked["type"]]).reason


def mac(text: bytes, key: bytes = KEY) -> str:
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def test_the_vectors_cover_every_protocol_that_is_served() -> None:
    assert {vector["protocol"] for vector in VECTORS} == {protocol.value for protocol in signature.PLAIN}
    assert len(VECTORS) >= 14


@each_vector
def test_a_vector_is_accepted(vector: dict[str, Any]) -> None:
    assert reason(vector) == "ok"


@each_vector
def test_a_vector_is_what_we_sign(vector: dict[str, Any]) -> None:
    protocol = Protocol(vector["protocol"])

    text = signature.message(protocol, vector["path"].encode(), vector["size"], vector.get("type", ""))

    assert signature.sign(vector["secret"].encode(), text) == vector["hex"]


@each_vector
def test_an_upper_case_mac_is_accepted(vector: dict[str, Any]) -> None:
    assert reason(vector, hex=vector["hex"].upper()) == "ok"


@each_vector
def test_any_changed_byte_of_the_path_is_refused(vector: dict[str, Any]) -> None:
    raw = vector["path"].encode()

    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        assert reason(vector, path=changed) == "wrong"


@each_vector
def test_a_longer_or_shorter_path_is_refused(vector: dict[str, Any]) -> None:
    raw = vector["path"].encode()

    for changed in (raw[:-1], raw[1:], raw + b"a", b"/" + raw, b"upload/" + raw, raw + b" 1", raw.upper()):
        assert reason(vector, path=changed) == "wrong"


@each_vector
def test_any_other_size_is_refused(vector: dict[str, Any]) -> None:
    size = vector["size"]

    for changed in (size + 1, size - 1, size * 10 + 1, 2**63):
        assert reason(vector, size=changed) == "wrong"


@each_vector
def test_any_changed_digit_of_the_mac_is_refused(vector: dict[str, Any]) -> None:
    digits = vector["hex"]

    for at in range(64):
        changed = digits[:at] + ("0" if digits[at] != "0" else "1") + digits[at + 1 :]
        assert reason(vector, hex=changed) == "wrong"


@each_vector
def test_another_secret_is_refused(vector: dict[str, Any]) -> None:
    assert reason(vector, secret=vector["secret"] + "x") == "wrong"


@each_typed_vector
def test_any_changed_byte_of_the_type_is_refused(vector: dict[str, Any]) -> None:
    declared = vector["type"]

    for at in range(len(declared)):
        changed = declared[:at] + chr(ord(declared[at]) ^ 1) + declared[at + 1 :]
        assert reason(vector, type=changed) == "wrong"


@each_typed_vector
def test_the_type_is_judged_verbatim(vector: dict[str, Any]) -> None:
    declared = vector["type"]

    for changed in (declared.swapcase(), declared + ";", declared + "; charset=utf-8", " " + declared, ""):
        assert reason(vector, type=changed) == "wrong"


@each_vector
def test_a_mac_of_one_message_form_is_refused_as_another(vector: dict[str, Any]) -> None:
    others = {"v": ["v2", "token"], "v2": ["v"], "token": ["v"]}[vector["protocol"]]

    for other in others:
        assert reason(vector, protocol=other) == "wrong"


@pytest.mark.parametrize("vector", FOREIGN, ids=name)
@pytest.mark.parametrize("protocol", ["v", "v2", "token"])
def test_a_mac_of_another_method_is_refused(vector: dict[str, Any], protocol: str) -> None:
    size = int(vector.get("size") or 0)

    assert reason({**vector, "type": vector.get("type", "")}, protocol=protocol, size=size) == "wrong"


@pytest.mark.parametrize("protocol", signature.PLAIN)
@pytest.mark.parametrize(
    "text",
    [
        b"foo/bar.jpg",
        b"foo/bar.jpg ",
        b"foo/bar.jpg\0",
        b"foo/bar.jpg\0\0image/jpeg",
        b"foo/bar.jpg\0image/jpeg",
        b"foo/bar.jpg\x00512",
        b"foo/bar.jpg\x00512\0",
        b"foo/bar.jpg\n512",
        b"foo/bar.jpg  512",
        b"foo/bar.jpg 0512",
        b"foo/bar.jpg +512",
        b"foo/bar.jpg 512 image/jpeg",
        b"foo/bar.jpg\x00512\0application/octet-stream",
        b"/foo/bar.jpg 512",
        b"/foo/bar.jpg\x00512\0image/jpeg",
        b"",
    ],
)
def test_no_other_message_form_is_accepted(protocol: Protocol, text: bytes) -> None:
    verdict = signature.verify(Claim(protocol, mac(text)), [KEY], b"foo/bar.jpg", 512, [JPEG])

    assert verdict.reason == "wrong"


def test_size_zero_is_signed_as_one_digit() -> None:
    assert signature.message(Protocol.V, b"a/b", 0, "") == b"a/b 0"
    assert signature.message(Protocol.V2, b"a/b", 0, "x/y") == b"a/b\x000\0x/y"


def test_a_missing_claim_is_told_apart_for_the_log_only() -> None:
    verdict = signature.verify(None, [KEY], b"a/b", 1, [JPEG])

    assert not verdict.ok
    assert verdict.reason == "missing"


@pytest.mark.parametrize(
    "digits",
    ["", "0" * 63, "0" * 65, "g" * 64, " " + "0" * 63, "0" * 64 + "\n", "0x" + "0" * 62, "٠" * 64, "0" * 128],
)
def test_anything_but_64_hex_digits_is_malformed(digits: str) -> None:
    verdict = signature.verify(Claim(Protocol.V, digits), [KEY], b"a/b", 1, [JPEG])

    assert verdict.reason == "malformed"


@given(st.text(alphabet="0123456789abcdefABCDEF", min_size=64, max_size=64), st.sampled_from(signature.PLAIN))
def test_any_64_hex_digits_but_the_mac_are_refused(digits: str, protocol: Protocol) -> None:
    right = signature.sign(KEY, signature.message(protocol, b"a/b", 1, JPEG))

    verdict = signature.verify(Claim(protocol, digits), [KEY], b"a/b", 1, [JPEG])

    assert verdict.ok == (digits.lower() == right)


@given(st.text(max_size=70))
def test_any_text_is_judged_without_an_error(text: str) -> None:
    verdict = signature.verify(Claim(Protocol.V2, text), [KEY], b"a/b", 1, [JPEG])

    assert verdict.reason in ("malformed", "wrong")


@given(st.binary(min_size=1, max_size=80), st.integers(0, 2**62), st.sampled_from(signature.PLAIN))
def test_what_we_sign_we_accept(path: bytes, size: int, protocol: Protocol) -> None:
    digits = signature.sign(KEY, signature.message(protocol, path, size, JPEG))

    assert signature.verify(Claim(protocol, digits), [KEY], path, size, [JPEG]).ok


@pytest.mark.parametrize("keys", [[KEY, b"older"], [b"newer", KEY], [b"newest", b"newer", KEY]])
def test_every_configured_key_verifies(keys: list[bytes]) -> None:
    digits = mac(b"a/b 1")

    assert signature.verify(Claim(Protocol.V, digits), keys, b"a/b", 1, [JPEG]).ok


def test_every_key_and_type_is_tried_even_after_a_match(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bool] = []
    real = hmac.compare_digest

    def counted(a: Any, b: Any) -> bool:
        compared.append(real(a, b))
        return compared[-1]

    monkeypatch.setattr(hmac, "compare_digest", counted)
    digits = mac(b"a/b\x001\0image/jpeg")

    verdict = signature.verify(Claim(Protocol.V2, digits), [KEY, b"older"], b"a/b", 1, [JPEG, "text/plain"])

    assert verdict.ok
    assert compared == [True, False, False, False]


def test_the_type_that_matched_is_told() -> None:
    digits = mac(b"a/b.txt\x001\0text/plain; charset=utf-8")
    types = ["application/octet-stream", "text/plain", "text/plain; charset=utf-8"]

    verdict = signature.verify(Claim(Protocol.V2, digits), [KEY], b"a/b.txt", 1, types)

    assert verdict.content_type == "text/plain; charset=utf-8"


def test_protocol_v_takes_the_declared_type_unjudged() -> None:
    verdict = signature.verify(Claim(Protocol.V, mac(b"a/b 1")), [KEY], b"a/b", 1, ["video/mp4", JPEG])

    assert verdict.content_type == "video/mp4"


@pytest.mark.parametrize(
    ("parameters", "chosen"),
    [
        ({"v": "1"}, Protocol.V),
        ({"token": "1"}, Protocol.TOKEN),
        ({"v2": "1"}, Protocol.V2),
        ({"v": "1", "token": "2"}, Protocol.TOKEN),
        ({"v": "1", "v2": "2"}, Protocol.V2),
        ({"token": "1", "v2": "2"}, Protocol.V2),
        ({"v": "1", "token": "2", "v2": "3", "v3": "4"}, Protocol.V2),
        ({"v": "1", "v2": ""}, Protocol.V2),
    ],
)
def test_the_highest_protocol_present_is_chosen(parameters: dict[str, str], chosen: Protocol) -> None:
    claim = signature.choose(parameters)

    assert claim is not None
    assert claim.protocol is chosen
    assert claim.mac == parameters[chosen.value]


@pytest.mark.parametrize("parameters", [{}, {"V2": "1"}, {"v3": "1"}, {"x": "1", "vv": "2"}])
def test_without_a_signing_parameter_there_is_no_claim(parameters: dict[str, str]) -> None:
    assert signature.choose(parameters) is None


def test_a_wrong_v2_does_not_fall_back_to_a_right_v() -> None:
    claim = signature.choose({"v2": "0" * 64, "v": mac(b"a/b 1")})

    assert signature.verify(claim, [KEY], b"a/b", 1, [JPEG]).reason == "wrong"


def test_a_malformed_v2_does_not_fall_back_to_a_right_v() -> None:
    claim = signature.choose({"v2": "", "v": mac(b"a/b 1")})

    assert signature.verify(claim, [KEY], b"a/b", 1, [JPEG]).reason == "malformed"


def test_the_repr_of_a_claim_hides_the_mac() -> None:
    digits = mac(b"a/b 1")

    assert digits not in repr(Claim(Protocol.V, digits))
    assert digits not in f"{Claim(Protocol.V, digits)}"


def hints(claim: Claim | None, path: bytes, *, declared: str = "", types: tuple[str, ...] = (JPEG,)) -> str:
    judged = declared or signature.DEFAULT_TYPE
    return " | ".join(signature.hints(claim, [KEY], path, 1, judged, types, bool(declared), "upload"))


def test_a_hint_tells_of_a_prefix_that_stands_twice() -> None:
    assert "prefix twice" in hints(Claim(Protocol.V, "0" * 64), b"upload/a/b")


def test_a_hint_tells_of_a_prefix_that_was_signed() -> None:
    assert "signs the URL prefix" in hints(Claim(Protocol.V, mac(b"upload/a/b 1")), b"a/b")


def test_a_signed_prefix_is_seen_with_the_declared_type_too() -> None:
    claim = Claim(Protocol.V2, mac(b"upload/a/b.jpg\0001\0application/octet-stream"))

    assert "signs the URL prefix" in hints(claim, b"a/b.jpg", declared="application/octet-stream")


def test_a_hint_tells_that_no_content_type_was_sent() -> None:
    claim = Claim(Protocol.V2, "0" * 64)

    assert "no Content-Type header was sent" in hints(claim, b"a/b")
    assert "no Content-Type header was sent" not in hints(claim, b"a/b", declared=JPEG)


def test_protocol_v_needs_no_hint_about_the_type() -> None:
    assert hints(Claim(Protocol.V, "0" * 64), b"a/b") == ""


def test_a_hint_tells_of_a_type_signed_by_extension() -> None:
    claim = Claim(Protocol.V2, mac(b"a/b.jpg\x001\0image/jpeg"))

    assert "ContentTypeFromExtension" in hints(claim, b"a/b.jpg", declared="application/octet-stream")


def test_a_hint_tells_of_a_v_signature_in_another_parameter() -> None:
    assert "protocol v " in hints(Claim(Protocol.V2, mac(b"a/b 1")), b"a/b", declared=JPEG)


@pytest.mark.parametrize("claim", [None, Claim(Protocol.V2, "short")])
def test_a_missing_or_malformed_mac_gets_no_hint(claim: Claim | None) -> None:
    assert hints(claim, b"upload/a/b") == ""


def test_no_hint_holds_a_mac_or_a_key() -> None:
    for text in (b"upload/a/b 1", b"a/b 1", b"a/b\x001\0image/jpeg"):
        digits = mac(text)
        said = hints(Claim(Protocol.V2, digits), b"a/b")
        assert digits not in said
        assert KEY.decode() not in said


def test_a_hint_tells_of_a_query_that_came_inside_the_path() -> None:
    assert "inside the path" in hints(None, b"a/b?v2=" + b"0" * 64)


V3 = [vector for vector in ALL if vector["protocol"] == "v3"]
EXPIRES = 1717804800


def v3_reason(vector: dict[str, Any], now: float = EXPIRES, **changed: Any) -> str:
    """The verdict on a v3 vector with some of its values changed."""
    asked = {**vector, **changed}
    claim = Claim(Protocol.V3, asked["hex"], str(asked["expires"]))
    keys, path = [asked["secret"].encode()], asked["path"].encode()
    if asked["method"] == "PUT":
        return signature.verify(claim, keys, path, int(asked["size"]), [asked["type"]], now).reason
    return signature.verify_access(claim, keys, asked["method"], path, now).reason


each_v3 = pytest.mark.parametrize("vector", V3, ids=lambda vector: str(vector["method"]))


@each_v3
def test_a_v3_vector_is_accepted_until_it_expires(vector: dict[str, Any]) -> None:
    assert v3_reason(vector, EXPIRES - 1) == "ok"
    assert v3_reason(vector, EXPIRES) == "ok"
    assert v3_reason(vector, EXPIRES + 1) == "expired"


@each_v3
def test_a_v3_vector_is_what_we_sign(vector: dict[str, Any]) -> None:
    text = signature.message_v3(
        vector["method"], str(vector["expires"]), vector["path"].encode(), str(vector["size"]), vector["type"]
    )

    assert signature.sign(vector["secret"].encode(), text) == vector["hex"]


@each_v3
@pytest.mark.parametrize(
    "changed", [{"expires": EXPIRES + 1}, {"expires": f"0{EXPIRES}"}, {"path": "foo/bar.jpeg"}, {"secret": "secret"}]
)
def test_a_v3_signature_covers_time_and_path(vector: dict[str, Any], changed: dict[str, Any]) -> None:
    assert v3_reason(vector, **changed) == "wrong"


@pytest.mark.parametrize("changed", [{"size": "1048577"}, {"type": "image/png"}])
def test_a_v3_signature_of_an_upload_covers_size_and_type(changed: dict[str, Any]) -> None:
    assert v3_reason(V3[0], **changed) == "wrong"


@each_v3
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_v3_signature_is_for_one_method(vector: dict[str, Any], method: str) -> None:
    expected = "ok" if vector["method"] == method else "wrong"

    assert v3_reason(vector, method=method, size=vector["size"] or "0") == expected


@pytest.mark.parametrize("expires", ["", "soon", "-1", "+5", "1.5", " 1717804800", "٣", "1" * 16])
def test_a_v3_signature_without_a_time_is_malformed(expires: str) -> None:
    for vector in V3:
        assert v3_reason(vector, expires=expires) == "malformed"


def test_a_missing_v3_signature_is_told_apart_for_the_log_only() -> None:
    assert signature.verify_access(None, [KEY], "GET", b"a/b", 0).reason == "missing"


def test_an_expired_signature_still_tells_which_type_it_is_for() -> None:
    (vector,) = [each for each in V3 if each["method"] == "PUT"]
    claim = Claim(Protocol.V3, vector["hex"], str(EXPIRES))
    types = ["text/plain", JPEG]

    verdict = signature.verify(claim, [KEY], b"foo/bar.jpg", 1048576, types, EXPIRES + 9)

    assert (verdict.reason, verdict.content_type) == ("expired", JPEG)


def test_the_published_deletion_of_metronome_is_accepted() -> None:
    (vector,) = [each for each in ALL if each["protocol"] == "token-delete"]
    claim, key, path = Claim(Protocol.TOKEN, vector["hex"]), vector["secret"].encode(), vector["path"].encode()
    secret = vector["delete_secret"].encode()

    def verdict(path: bytes = path, keys: tuple[bytes, ...] = (key,), secrets: tuple[bytes, ...] = (secret,)) -> str:
        return signature.verify_delete(claim, keys, path, secrets).reason

    assert verdict() == "ok"
    assert verdict(keys=(b"new", key), secrets=(b"newer", secret)) == "ok"
    assert verdict(path=b"foo/bar.jpeg") == "wrong"
    assert verdict(keys=(b"other",)) == "wrong"
    assert verdict(secrets=(b"other",)) == "wrong"
    assert verdict(secrets=()) == "wrong"


ALL_PROTOCOLS = tuple(Protocol)


@pytest.mark.parametrize(
    ("parameters", "bearer", "accepts", "chosen"),
    [
        ({"v3": "1", "expires": "2", "v2": "3"}, "t", ALL_PROTOCOLS, Protocol.BEARER),
        ({"v3": "1", "expires": "2", "v2": "3"}, "t", signature.PLAIN, Protocol.V2),
        ({"v3": "1", "expires": "2", "v2": "3"}, None, ALL_PROTOCOLS, Protocol.V3),
        ({"v3": "1", "expires": "2", "v2": "3"}, "", ALL_PROTOCOLS, Protocol.BEARER),
        ({"v2": "3"}, "", signature.PLAIN, Protocol.V2),
        ({"v3": "1", "v2": "3"}, None, ALL_PROTOCOLS, Protocol.V3),
        ({"bearer": "1", "v": "3"}, None, ALL_PROTOCOLS, Protocol.V),
        ({"v": "1"}, "t", (Protocol.V3,), None),
        ({"v3": "1"}, "t", (), None),
    ],
)
def test_the_highest_protocol_that_is_on_is_chosen(
    parameters: dict[str, str], bearer: str | None, accepts: tuple[Protocol, ...], chosen: Protocol | None
) -> None:
    claim = signature.choose(parameters, accepts, bearer)

    assert (claim and claim.protocol) == chosen


def test_only_v3_takes_the_time_from_the_query() -> None:
    parameters = {"v3": "1", "v2": "3", "expires": "2"}

    assert signature.choose(parameters, ALL_PROTOCOLS) == Claim(Protocol.V3, "1", "2")
    assert signature.choose(parameters, signature.PLAIN) == Claim(Protocol.V2, "3", "")


def test_two_signatures_have_one_proof_only_if_they_are_the_same() -> None:
    claims = [
        Claim(Protocol.V3, "a" * 64, "1"),
        Claim(Protocol.V3, "a" * 64, "2"),
        Claim(Protocol.V3, "b" * 64, "1"),
        Claim(Protocol.V2, "a" * 64),
        Claim(Protocol.BEARER, "a" * 64),
        Claim(Protocol.BEARER, "A" * 64),
    ]

    assert len({claim.proof for claim in claims}) == len(claims)
    assert Claim(Protocol.V3, "A" * 64, "1").proof == claims[0].proof
