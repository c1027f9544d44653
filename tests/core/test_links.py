"""Signed PUT URLs that the server itself accepts."""

from urllib.parse import parse_qs, parse_qsl, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import links, paths, signature
from hmacfs.core.signature import Protocol

KEY = b"secret string"


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/."), min_size=1, max_size=40),
    st.integers(0, 2**50),
    st.sampled_from([each for each in Protocol if each is not Protocol.BEARER]),
    st.sampled_from(["", "upload"]),
)
def test_a_slot_s_put_url_verifies(name: str, size: int, protocol: Protocol, prefix: str) -> None:
    path = paths.parse(b"r/" + name.encode())

    slot = links.slot(KEY, path, size, "image/png", protocol, prefix, expires=1700000000)

    target, _, query = slot.put_target.partition("?")
    received = paths.under_prefix(unquote_to_bytes(target), prefix)
    claim = signature.choose(dict(parse_qsl(query)), list(Protocol))
    assert received == path.raw
    assert claim is not None
    assert claim.protocol is protocol
    assert signature.verify(claim, [KEY], received, size, ["image/png"], 1700000000).ok


def test_a_slot_of_a_published_vector_is_the_published_url() -> None:
    slot = links.slot(KEY, paths.parse(b"foo/bar.jpg"), 1048576, "", Protocol.V, "upload")

    mac = "e6df55a04516617d6a86ad6ca23879819591085a1a8c0041f4da06824f5d2db7"
    assert slot.put_target == f"/upload/foo/bar.jpg?v={mac}"


@pytest.mark.parametrize("protocol", [Protocol.V3, *signature.PLAIN])
def test_the_get_url_is_plain_and_the_repr_hides_the_mac(protocol: Protocol) -> None:
    slot = links.slot(KEY, paths.parse(b"a/b c"), 1, "image/png", protocol, "upload")

    assert slot.get_target == "/upload/a/b%20c"
    assert "?" not in repr(slot)
    assert parse_qs(slot.put_target.partition("?")[2])[protocol.value][0] not in repr(slot)


def test_the_links_of_published_vectors_are_the_published_urls() -> None:
    path = paths.parse(b"foo/bar.jpg")

    assert links.access(KEY, path, "GET", "upload", 1717804800) == (
        "/upload/foo/bar.jpg?v3=513bc9902dbf3f5c5880eed79fcef62bad072e4a706a7909f4669e8a50813e4c&expires=1717804800"
    )
    assert links.access(KEY, path, "DELETE", "", 1717804800) == (
        "/foo/bar.jpg?v3=5417768619a0d2ca39fe296d6ce94c16b76f028ffb1efada4576d7644d94e175&expires=1717804800"
    )
    assert links.deletion(KEY, path, b"delete-me", "upload") == (
        "/upload/foo/bar.jpg?token=c989e9afd3fc82afbe521fed8b6fdb727b162d6cdf799bcc6780bbc50f21716b"
    )
