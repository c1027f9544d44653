"""Whether a signature proves what an upload says of itself, and what is told to whom (protocol, section 2)."""

import hashlib
import hmac
from dataclasses import replace

import pytest

from hmacfs.core import paths
from hmacfs.core.signature import Claim, Protocol
from hmacfs.errors import BadSignature, TooLarge
from hmacfs.services.authority import Authority, UploadRequest
from hmacfs.services.secrets import Keyring

SECRET = "a-secret-long-enough-for-anybody"
TYPE = "image/jpeg"
TOKEN = "token-of-client-1"


def mac(text: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def v2(total: int = 100, content_type: str = TYPE, path: str = "a/b.jpg", secret: str = SECRET) -> Claim:
    return Claim(Protocol.V2, mac(b"\0".join((path.encode(), str(total).encode(), content_type.encode())), secret))


def request(total: int = 100, content_type: str = TYPE, claim: Claim | None = None) -> UploadRequest:
    """A request with a right v2 signature, unless another claim is given."""
    path = paths.parse(b"a/b.jpg")
    return UploadRequest(path, total, "192.0.2.1", content_type, True, claim or v2(), token=TOKEN)


def test_a_right_signature_proves_the_type_it_covers() -> None:
    assert Authority(Keyring(SECRET)).proven(request()).content_type == TYPE


@pytest.mark.parametrize(
    "claim",
    [
        None,
        v2(total=101),
        v2(total=99),
        v2(content_type="image/png"),
        v2(path="a/c.jpg"),
        v2(secret="another-secret-of-the-same-length"),
        Claim(Protocol.V2, "0" * 64),
        Claim(Protocol.V2, "no hex"),
        Claim(Protocol.V2, ""),
        Claim(Protocol.V, v2().mac),
    ],
)
def test_anything_else_gets_one_and_the_same_refusal(claim: Claim | None) -> None:
    asked = replace(request(), claim=claim)

    with pytest.raises(BadSignature) as caught:
        Authority(Keyring(SECRET), prefix="upload").proven(asked)

    assert (caught.value.status, caught.value.code) == (403, "bad-signature")
    assert caught.value.sentence == BadSignature.sentence
    assert (caught.value.size, caught.value.content_type) == (100, TYPE)
    assert caught.value.protocol == (claim.protocol.value if claim else "none")


def test_the_size_limit_is_told_to_the_signed_only_and_judged_on_the_total() -> None:
    authority = Authority(Keyring(SECRET), max_size=100)

    assert authority.proven(request()).content_type == TYPE
    with pytest.raises(TooLarge):
        authority.proven(request(total=101, claim=v2(total=101)))
    with pytest.raises(BadSignature):
        authority.proven(request(total=101))


def test_no_limit_is_no_limit() -> None:
    huge = 10**15

    assert Authority(Keyring(SECRET)).proven(request(total=huge, claim=v2(total=huge))).content_type == TYPE


def test_a_type_by_extension_is_tried_only_where_it_is_configured_and_is_then_the_one_that_counts() -> None:
    asked = request(content_type="application/octet-stream")

    with pytest.raises(BadSignature):
        Authority(Keyring(SECRET)).proven(asked)

    assert Authority(Keyring(SECRET), type_from_extension=True).proven(asked).content_type == TYPE


def test_v_does_not_cover_the_type_which_is_taken_as_declared() -> None:
    claim = Claim(Protocol.V, mac(b"a/b.jpg 100"))

    assert Authority(Keyring(SECRET)).proven(request(content_type="x/y", claim=claim)).content_type == "x/y"


def test_no_repr_and_no_refusal_holds_a_token_or_a_mac() -> None:
    asked = request(claim=Claim(Protocol.V2, "ab" * 32))
    with pytest.raises(BadSignature) as caught:
        Authority(Keyring(SECRET)).proven(asked)

    said = repr(asked) + repr(caught.value) + str(caught.value) + repr(vars(caught.value))

    for hidden in (TOKEN, "ab" * 32, SECRET, v2().mac):
        assert hidden not in said


@pytest.mark.parametrize("total", [2**53 + 1, 10**18, 10**20, 10**29])
def test_no_size_beyond_all_disks_is_accepted_even_without_upload_max_size(total: int) -> None:
    for most in (0, 2**62):
        with pytest.raises(TooLarge):
            Authority(Keyring(SECRET), max_size=most).proven(request(total, claim=v2(total)))

    largest = request(2**53, claim=v2(2**53))
    assert Authority(Keyring(SECRET)).proven(largest).total == 2**53
