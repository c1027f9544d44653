"""What a signature proves of a request, by its protocol; which protocols are on; uploads that outlive their slot."""

from dataclasses import replace
from typing import Any

import pytest

from hmacfs.core import paths
from hmacfs.core.rotation import Ring, Secrets
from hmacfs.core.signature import PLAIN, Claim, Protocol
from hmacfs.errors import BadSignature, TooLarge
from hmacfs.services.authority import Authority, DeletionRequest, UploadRequest
from hmacfs.services.secrets import Keyring
from tests.support import tokens
from tests.support.http import sign_v2

NOW = 1_700_000_000
PATH = "slot-1/notes.txt"
SECRET, JWT, DELETE = "the secret", "the key of tokens", "the delete secret"


def authority(*, jwt: str = JWT, delete: str = DELETE, v3: bool = True, **given: Any) -> Authority:
    keyring = Keyring(Ring(Secrets(SECRET, jwt, delete)))
    return Authority(keyring, v3=v3, prefix="upload", clock=lambda: NOW, **given)


def request(claim: Claim | None, size: int = 5, kind: str = "text/plain", **changed: Any) -> UploadRequest:
    return UploadRequest(paths.parse(PATH.encode()), size, "192.0.2.1", kind, True, claim, **changed)


def v3(method: str, expires: int, size: int | str = "", kind: str = "") -> Claim:
    query = tokens.v3_query(SECRET, method, PATH, expires, size, kind)
    return Claim(Protocol.V3, query[3:67], str(expires))


def bearer(**changed: Any) -> Claim:
    return Claim(Protocol.BEARER, tokens.jwt(JWT, tokens.slot_claims(PATH, 5, NOW, **changed)))


def access(claim: Claim | None) -> DeletionRequest:
    return DeletionRequest(paths.parse(PATH.encode()), "192.0.2.1", claim)


def test_a_plain_signature_changes_nothing_of_the_request() -> None:
    asked = request(Claim(Protocol.V2, sign_v2(SECRET, PATH.encode(), 5, "text/plain")))

    assert authority().proven(asked) is asked


def test_a_token_tells_the_uploader_and_when_the_file_expires() -> None:
    proven = authority().proven(request(bearer()))

    assert (proven.uploader, proven.expires_at, proven.content_type) == (
        "romeo@example.org",
        NOW + 86400,
        "text/plain",
    )


def test_a_token_with_an_expiry_and_no_uploader_tells_the_expiry() -> None:
    assert authority().proven(request(bearer(sub=None))).expires_at == NOW + 86400


def test_v3_is_judged_with_the_clock() -> None:
    assert authority().proven(request(v3("PUT", NOW, 5, "text/plain")))
    with pytest.raises(BadSignature) as refused:
        authority().proven(request(v3("PUT", NOW - 1, 5, "text/plain")))
    assert refused.value.reason == "expired"


@pytest.mark.parametrize("reason", ["v3", "bearer"])
def test_a_late_signature_goes_on_with_what_it_began_in_time(reason: str) -> None:
    late = v3("PUT", NOW - 1, 5, "text/plain") if reason == "v3" else bearer(exp=NOW - 100)
    asked: list[UploadRequest] = []

    def admitted(proven: UploadRequest) -> bool:
        asked.append(proven)
        return True

    proven = authority().proven(request(late), admitted)

    assert asked == [proven]
    with pytest.raises(BadSignature):
        authority().proven(request(late), lambda _: False)


@pytest.mark.parametrize("claim", [None, Claim(Protocol.V3, "0" * 64, str(NOW - 5)), Claim(Protocol.V3, "", "")])
def test_what_is_not_merely_late_is_refused_whatever_was_admitted(claim: Claim | None) -> None:
    with pytest.raises(BadSignature):
        authority().proven(request(claim), lambda _: True)


def test_a_token_from_the_future_is_not_merely_late() -> None:
    with pytest.raises(BadSignature) as refused:
        authority().proven(request(bearer(iat=NOW + 500)), lambda _: True)

    assert refused.value.reason == "early"


def test_a_late_upload_is_not_larger_than_others() -> None:
    with pytest.raises(TooLarge):
        authority(max_size=4).proven(request(v3("PUT", NOW - 1, 5, "text/plain")), lambda _: True)


def test_why_a_token_does_not_fit_is_told_to_the_operator() -> None:
    with pytest.raises(BadSignature) as refused:
        authority().proven(request(bearer(), size=6))

    assert (refused.value.protocol, refused.value.reason) == ("bearer", "misfit")
    assert any("another size" in hint for hint in refused.value.hints)


@pytest.mark.parametrize(
    ("jwt", "delete", "v3", "uploads", "reading", "deleting"),
    [
        ("", "", False, PLAIN, (), ()),
        (JWT, "", False, (Protocol.BEARER, *PLAIN), (), ()),
        ("", "", True, (Protocol.V3, *PLAIN), (Protocol.V3,), (Protocol.V3,)),
        ("", DELETE, False, PLAIN, (), (Protocol.TOKEN,)),
        (
            JWT,
            DELETE,
            True,
            (Protocol.BEARER, Protocol.V3, *PLAIN),
            (Protocol.V3,),
            (Protocol.V3, Protocol.TOKEN),
        ),
    ],
)
def test_a_protocol_is_on_where_its_key_is(
    jwt: str,
    delete: str,
    v3: bool,
    uploads: tuple[Protocol, ...],
    reading: tuple[Protocol, ...],
    deleting: tuple[Protocol, ...],
) -> None:
    built = authority(jwt=jwt, delete=delete, v3=v3)

    assert (built.accepts, built.accepts_reading, built.accepts_deleting) == (uploads, reading, deleting)


def test_a_signed_download_tells_how_long_its_signature_holds() -> None:
    assert authority().check_download(access(v3("GET", NOW + 90))) == 90
    assert authority().check_download(access(v3("GET", NOW))) == 0


@pytest.mark.parametrize(
    "claim",
    [
        None,
        v3("GET", NOW - 1),
        v3("PUT", NOW + 90),
        v3("DELETE", NOW + 90),
        v3("PUT", NOW + 90, 5, "text/plain"),
        Claim(Protocol.V3, "0" * 64, str(NOW + 90)),
        replace(v3("GET", NOW + 90), expires=str(NOW + 91)),
    ],
)
def test_a_download_needs_its_own_signature(claim: Claim | None) -> None:
    with pytest.raises(BadSignature):
        authority().check_download(access(claim))


def test_both_forms_of_deletion_are_accepted() -> None:
    query = tokens.delete_query(SECRET, PATH, DELETE)

    authority().check_deletion(access(v3("DELETE", NOW + 9)))
    authority().check_deletion(access(Claim(Protocol.TOKEN, query.removeprefix("token="))))


@pytest.mark.parametrize(
    "claim",
    [
        None,
        v3("DELETE", NOW - 1),
        v3("GET", NOW + 90),
        Claim(Protocol.TOKEN, "0" * 64),
        Claim(Protocol.TOKEN, tokens.delete_query(SECRET, PATH, "another").removeprefix("token=")),
        Claim(Protocol.TOKEN, tokens.delete_query(SECRET, PATH, "").removeprefix("token=")),
        Claim(Protocol.TOKEN, sign_v2(SECRET, PATH.encode(), 5, "text/plain")),
    ],
)
def test_a_deletion_needs_its_own_signature(claim: Claim | None) -> None:
    with pytest.raises(BadSignature):
        authority().check_deletion(access(claim))
