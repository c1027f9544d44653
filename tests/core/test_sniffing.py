"""What the first block of a file says it is."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import sniffing
from hmacfs.core.sniffing import FIRST_BLOCK, types_of
from tests.support import specimens

LONG_COMMENT = b"<!--" + b"x" * 9000 + b"-->"
DRAWING = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
KNOWN = [
    ("a Windows program", specimens.windows_program(), "application/x-dosexec"),
    ("one whose second header is far away", specimens.windows_program(20000), "application/x-dosexec"),
    ("a program for Linux", specimens.elf_program(), "application/x-executable"),
    ("a program for macOS", b"\xcf\xfa\xed\xfe\x07\0\0\x01" + bytes(100), "application/x-mach-binary"),
    ("a class of Java", b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(100), "application/java-vm"),
    ("a shortcut of Windows", b"L\0\0\0\x01\x14\x02\0\0\0\0\0" + bytes(100), "application/x-ms-shortcut"),
    ("a script", specimens.SCRIPT, "text/x-shellscript"),
    ("a script of Python", b"#!/usr/bin/env -S python3 -u\nprint(1)\n", "text/x-python"),
    ("a script of Python, as a script", b"#! /usr/bin/python3\nprint(1)\n", "text/x-shellscript"),
    ("a script of Perl", b"#!/usr/bin/perl -w\n", "text/x-perl"),
    ("PHP", b"<?php system($_GET[0]); ?>", "text/x-php"),
    ("PHP behind a line", b"\n<?= `id` ?>", "text/x-php"),
    ("a page", specimens.HTML, "text/html"),
    ("a page behind spaces", b"\n\t  <HTML><script>1</script></HTML>", "text/html"),
    ("a page behind a comment", b"<!-- hello -->\n<script>1</script>", "text/html"),
    ("a page with a mark", b"\xef\xbb\xbf<html></html>", "text/html"),
    ("a page in UTF-16", "\ufeff<html></html>".encode("utf-16-le"), "text/html"),
    ("a page in UTF-16, the other way", "\ufeff<html></html>".encode("utf-16-be"), "text/html"),
    ("a page in XML", b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>', "text/html"),
    ("a drawing", specimens.SVG, "image/svg+xml"),
    ("a drawing, bare", b'<svg xmlns="http://www.w3.org/2000/svg" width="1"/>', "image/svg+xml"),
    ("a drawing with a prefix", b'<s:svg xmlns:s="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
    ("a drawing with a type", b'<!DOCTYPE svg [<!ENTITY a "b">]>\n<svg>', "image/svg+xml"),
    ("a drawing behind a comment", b'<?xml version="1.0"?><!-- a > b --> <svg>', "image/svg+xml"),
    ("a drawing that hides", b'<?xml version="1.0"?>' + LONG_COMMENT + b"<svg>", "image/svg+xml"),
    (
        "a drawing that hides behind a comment of words",
        b"<?xml version='1.0'?><!-- " + b"a " * 5000 + b"--><svg>",
        "image/svg+xml",
    ),
    ("a drawing whose type has a bracket in a string", b"<!doctype svg [<!ENTITY a ']'>]><svg>", "image/svg+xml"),
    ("a drawing that hides behind spaces", b'<?xml version="1.0"?>' + b" " * 9000 + b"<svg>", "image/svg+xml"),
    ("XML", b'<?xml version="1.0"?><root/>', "text/xml"),
    *((f"a drawing in {each} without a mark", DRAWING.encode(each), "image/svg+xml") for each in WIDE),
    *((f"a bare drawing in {each} without a mark", "<svg/>".encode(each), "image/svg+xml") for each in WIDE),
    *((f"a page in {each} behind a line", "\r\n <html>".encode(each), "text/html") for each in WIDE),
    *((f"a drawing in {each} with a mark", ("\ufeff" + DRAWING).encode(each), "image/svg+xml") for each in WIDE),
    *((f"a drawing in {each} that hides", (DRAWING[:21] + " " * 9000).encode(each), "image/svg+xml") for each in WIDE),
    ("a drawing in EBCDIC", DRAWING.encode("cp037"), "image/svg+xml"),
    ("a drawing in another EBCDIC", DRAWING.encode("cp500"), "image/svg+xml"),
    ("PDF", specimens.PDF, "application/pdf"),
    ("an archive", specimens.zipped("a.txt"), "application/zip"),
    ("packed", specimens.GZIP, "application/gzip"),
    ("a picture", specimens.png(), "image/png"),
    ("a bitmap", b"BM" + (1000).to_bytes(4, "little") + bytes(4) + bytes(100), "image/bmp"),
    ("a film", specimens.mp4(), "video/mp4"),
    ("PostScript", b"%!PS-Adobe-3.0\n", "application/postscript"),
]


@pytest.mark.parametrize(("content", "name"), [case[1:] for case in KNOWN], ids=[case[0] for case in KNOWN])
def test_a_file_is_known_by_its_first_block(content: bytes, name: str) -> None:
    assert name in types_of(content[:FIRST_BLOCK])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a",
        specimens.TEXT,
        b"<",
        b"<3 you",
        b"<b@example.org> wrote:",
        b"a <script>",
        b"#hashtag",
        b"MZ",
        b"MZ is what they call it",
        b"MZ" + bytes(62) + b"not a program" * 10,
        b"BM is short",
        b"%!shrug",
        b"<root/>",
        "<root/>".encode("utf-16-le"),
        b"<\0\0",
        b"\0<",
        b" \0 \0",
        b"\0\0\0<",
        b"<\0\x01\x02svg>",
        b"Lo\xa7",
    ],
)
def test_what_is_nothing_special_has_no_type(content: bytes) -> None:
    assert types_of(content) == frozenset()


def test_an_archive_is_not_a_page_and_a_page_no_archive() -> None:
    assert types_of(specimens.zipped("x.html")).isdisjoint(types_of(specimens.HTML))


def test_a_type_is_known_under_all_its_names() -> None:
    found = types_of(specimens.windows_program())

    assert {"application/x-msdownload", "application/vnd.microsoft.portable-executable"} <= found
    assert sniffing.with_aliases("image/png") == {"image/png"}


def test_no_name_belongs_to_two_families() -> None:
    names = [name for family in sniffing.FAMILIES for name in family]

    assert len(names) == len(set(names))


def test_encrypted_files_are_not_taken_for_programs_or_pages() -> None:
    chance = random.Random(1)
    wrong = {name for _ in range(3000) for name in types_of(chance.randbytes(300))}
    # The two bytes that libmagic and filetype take for a program, before bytes of which none is chosen.
    wrong |= {name for _ in range(3000) for name in types_of(b"MZ" + chance.randbytes(300))}

    assert not [name for name in wrong if not name.startswith(("audio/", "application/x-compress"))]


@given(st.binary(max_size=200) | st.text(alphabet="<!?-svghtml>[]:/#= \n").map(str.encode))
def test_any_bytes_have_types_and_raise_nothing(content: bytes) -> None:
    assert all(name.count("/") == 1 for name in types_of(content))


@pytest.mark.parametrize(
    "content",
    [
        b" " * FIRST_BLOCK,
        b" \0" * FIRST_BLOCK,
        b"\0 " * FIRST_BLOCK,
        b" \0\0\0" * FIRST_BLOCK,
        b"\0\0\0 " * FIRST_BLOCK,
        b"<" * FIRST_BLOCK,
        b"<?" * FIRST_BLOCK,
        b"<!--" * FIRST_BLOCK,
        b"<!doctype" * FIRST_BLOCK,
        b"<!doctype [" * FIRST_BLOCK,
        b"<?xml " + b"<!---->" * FIRST_BLOCK,
        b"<" + b"a" * FIRST_BLOCK,
        b"<" + b"a:" * FIRST_BLOCK,
        b"#!" + b"/" * FIRST_BLOCK,
        b"#!/usr/bin/env " + b"-a " * FIRST_BLOCK,
    ],
)
def test_no_content_is_slow_to_judge(content: bytes) -> None:
    begun = time.thread_time()

    types_of(content[:FIRST_BLOCK])

    assert time.thread_time() - begun < 0.05  # a quadratic pattern takes seconds
