"""Content types: declared, suggested by an extension, shown inline or not (protocol, sections 2 and 4)."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import contenttype
from hmacfs.errors import BadHeader


def test_an_absent_type_is_octet_stream() -> None:
    assert contenttype.declared("") == "application/octet-stream"


@pytest.mark.parametrize("header", ["image/jpeg", "Text/PLAIN; Charset=UTF-8", 'a/b; x="y z"', "nonsense", "a" * 255])
def test_a_declared_type_is_kept_verbatim(header: str) -> None:
    assert contenttype.declared(header) == header


@pytest.mark.parametrize("header", ["a" * 256, "a/b\x00", "a/b\n", "a\tb", "a/b\x7f", "a/\xe9", "a/\u2028"])
def test_a_type_that_is_too_long_or_not_printable_ascii_is_refused(header: str) -> None:
    with pytest.raises(BadHeader) as caught:
        contenttype.declared(header)

    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", "image/jpeg"),
        ("a.JPG", "image/jpeg"),
        ("a.b.png", "image/png"),
        ("a.txt", "text/plain"),
        ("a.pdf", "application/pdf"),
        ("a.mp4", "video/mp4"),
        ("a.webm", "video/webm"),
        ("a.webp", "image/webp"),
        ("a.opus", "audio/ogg"),
        ("a.m4a", "audio/mp4"),
        ("a.svg", "image/svg+xml"),
        ("a.html", "text/html"),
        ("a.unheard-of", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("jpg", "application/octet-stream"),
        (".jpg", "image/jpeg"),
    ],
)
def test_an_extension_suggests_a_type(name: str, expected: str) -> None:
    assert contenttype.by_extension(name) == expected


def test_senders_by_extension_may_have_signed_it_bare_or_with_a_charset() -> None:
    assert contenttype.candidates("a.txt") == ["text/plain", "text/plain; charset=utf-8"]


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "TEXT/Plain; charset=utf-8", "image/png", "image/webp", "audio/ogg", "video/mp4", "image/jpeg;q=1"],
)
def test_a_passive_type_may_be_shown_inline(content_type: str) -> None:
    assert contenttype.is_passive(content_type)
    assert contenttype.disposition(content_type, "a") is None


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "text/html; charset=utf-8",
        "image/svg+xml",
        "IMAGE/SVG+XML",
        "application/xhtml+xml",
        "text/xml",
        "application/xml",
        "application/pdf",
        "application/javascript",
        "text/javascript",
        "text/css",
        "application/octet-stream",
        "multipart/x-mixed-replace",
        "text/plain, text/html",
        "text/plainhtml",
        "image/*",
        "*/*",
        "",
        ";text/plain",
    ],
)
def test_every_other_type_is_an_attachment(content_type: str) -> None:
    assert not contenttype.is_passive(content_type)
    assert (contenttype.disposition(content_type, "a.bin") or "").startswith("attachment; ")


def test_nothing_that_can_run_is_in_the_table_of_passive_types() -> None:
    active = ("svg", "html", "xml", "pdf", "script")

    assert not [known for known in contenttype.PASSIVE_TYPES if any(word in known for word in active)]


def test_an_attachment_names_its_file_twice() -> None:
    expected = "attachment; filename=\"K_ln _100_ _.pdf\"; filename*=UTF-8''K%C3%B6ln%20%22100%25%20%E2%98%83.pdf"

    assert contenttype.disposition("application/pdf", 'Köln "100% ☃.pdf') == expected


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1, max_size=40))
def test_a_file_name_cannot_break_out_of_the_header(name: str) -> None:
    header = contenttype.disposition("application/pdf", name)

    assert header is not None
    assert header.isascii()
    assert header.isprintable()
    start, _, extended = header.rpartition("; filename*=UTF-8''")
    plain = start.removeprefix('attachment; filename="').removesuffix('"')
    assert len(plain) == len(name)
    assert not set(plain) & set('"\\%')
    assert all(c.isalnum() or c in "!#$&+-.^_`|~%" for c in extended)
    assert unquote(extended) == name
