"""Which byte strings are a slot, and how they are shown and linked (protocol, section 1)."""

from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hmacfs.core import paths
from hmacfs.errors import BadPath

segments = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=60)
slots = (
    st.lists(segments, min_size=1, max_size=8)
    .filter(lambda parts: not parts[0].startswith(".") and "." not in parts and ".." not in parts)
    .map(lambda parts: "/".join(parts).encode())
    .filter(lambda raw: len(raw) <= 1024 and all(len(part) <= 255 for part in raw.split(b"/")))
)


@pytest.mark.parametrize(
    "raw",
    [
        b"a",
        b"a/b",
        b"user/random/name.jpg",
        b"1/2/3/4/5/6/7/8",
        b"a/.bashrc",
        b"a/...",
        b"a/b\\c",
        b"a/b c",
        b"a/%2e%2e",
        b"a/~$&'()*+,;=:@",
        "a/Grüße aus Köln.jpg".encode(),
        "a/\u2028\u202e".encode(),
        "a/\N{SNOWMAN}\N{GRINNING FACE}".encode(),
        b"a" * 255,
        b"/".join([b"a" * 127] * 8),
    ],
)
def test_a_legal_path_is_kept_byte_for_byte(raw: bytes) -> None:
    path = paths.parse(raw)

    assert path.raw == raw
    assert b"/".join(path.segments) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"/",
        b"/a",
        b"a/",
        b"a//b",
        b".",
        b"..",
        b"a/.",
        b"a/..",
        b"a/../b",
        b"a/./b",
        b".hidden",
        b".hmacfs/staging/x",
        b".uploads/x",
        b"..a",
        b"a/b\x00",
        b"a/b\x1f",
        b"a/b\n",
        b"a\r/b",
        b"a/b\x7f",
        b"a/\xff",
        b"a/\xc3",
        b"a/\xed\xa0\x80",
        b"a/\xc0\xae",
        b"a" * 256,
        b"a/" + b"b" * 256,
        "ä".encode() * 128,
        b"/".join([b"a" * 127] * 8) + b"bb",
        b"1/2/3/4/5/6/7/8/9",
    ],
)
def test_an_illegal_path_is_refused(raw: bytes) -> None:
    with pytest.raises(BadPath) as caught:
        paths.parse(raw)

    assert caught.value.status == 400


@pytest.mark.parametrize("control", [*range(0x20), 0x7F])
def test_every_control_byte_is_refused(control: int) -> None:
    with pytest.raises(BadPath):
        paths.parse(b"a/b" + bytes([control]) + b"c")


def test_a_path_of_1024_bytes_is_the_longest() -> None:
    longest = b"/".join([b"a" * 203] * 4 + [b"b" * 208])

    assert len(longest) == 1024
    assert paths.parse(longest).raw == longest
    with pytest.raises(BadPath):
        paths.parse(longest + b"b")


def test_two_unicode_forms_of_one_name_stay_two_paths() -> None:
    composed, decomposed = "a/\u00e9".encode(), "a/e\u0301".encode()

    assert paths.parse(composed) != paths.parse(decomposed)


def test_the_name_for_people_is_the_last_segment() -> None:
    assert paths.parse("a/b/Köln.jpg".encode()).name == "Köln.jpg"


@given(slots)
def test_every_slot_of_legal_segments_is_accepted(raw: bytes) -> None:
    assert paths.parse(raw).raw == raw


@given(st.binary(max_size=40))
def test_any_bytes_are_a_slot_or_a_bad_path(raw: bytes) -> None:
    try:
        path = paths.parse(raw)
    except BadPath:
        return

    assert path.raw == raw
    assert all(part not in (b"", b".", b"..") for part in path.segments)
    assert not raw.startswith((b".", b"/"))
    assert raw.decode() is not None


@pytest.mark.parametrize(
    ("url", "prefix", "expected"),
    [
        (b"/upload/a/b", "upload", b"a/b"),
        (b"/upload/", "upload", b""),
        (b"/upload", "upload", b""),
        (b"/upload//a", "upload", b"/a"),
        (b"/upload/upload/a", "upload", b"upload/a"),
        (b"/uploads/a", "upload", None),
        (b"/Upload/a", "upload", None),
        (b"/other/a", "upload", None),
        (b"//upload/a", "upload", None),
        (b"/", "upload", None),
        (b"", "upload", None),
        (b"/x/y/a", "x/y", b"a"),
        (b"/x/a", "x/y", None),
        (b"/a/b", "", b"a/b"),
        (b"//a", "", b"/a"),
        (b"/", "", b""),
        (b"", "", None),
        (b"*", "", None),
    ],
)
def test_a_path_is_what_follows_the_prefix_and_one_slash(url: bytes, prefix: str, expected: bytes | None) -> None:
    assert paths.under_prefix(url, prefix) == expected


@given(slots, st.sampled_from(["", "upload", "x/y"]))
def test_a_url_path_decodes_back_to_the_raw_path(raw: bytes, prefix: str) -> None:
    url = paths.url_path(raw, prefix)

    assert url.startswith("/")
    assert paths.under_prefix(unquote_to_bytes(url), prefix) == raw


@given(slots)
def test_a_url_path_holds_only_characters_that_every_client_reads_alike(raw: bytes) -> None:
    url = paths.url_path(raw, "upload")

    assert url.isascii()
    assert all(c.isalnum() or c in "/-._~%" for c in url)


def test_a_plus_in_a_name_is_percent_encoded_in_links() -> None:
    assert paths.url_path(b"a/b+c d%41", "upload") == "/upload/a/b%2Bc%20d%2541"


@given(st.binary(max_size=60))
@example(b"a%41")
@example(b"a%2F\xff")
def test_a_shown_path_is_unambiguous(raw: bytes) -> None:
    assert unquote_to_bytes(paths.shown(raw)) == raw


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_a_shown_path_never_forges_or_splits_a_log_line(raw: bytes) -> None:
    text = paths.shown(raw)

    assert text.isprintable()
    assert not set(text) & set(' "\\')
    assert len(text.splitlines()) <= 1


def test_a_shown_path_keeps_readable_unicode() -> None:
    assert str(paths.parse("a/Grüße aus Köln.jpg".encode())) == "a/Grüße%20aus%20Köln.jpg"


@pytest.mark.parametrize("raw", [b"leak?v2=" + b"0a" * 32, b"leak&v=" + b"F9" * 32, b"a/" + b"7" * 64 + b"/b"])
def test_what_looks_like_a_mac_is_never_shown(raw: bytes) -> None:
    shown = paths.shown(raw)

    assert raw.decode()[-40:-4] not in shown
    assert "[64-hex-digits]" in shown


ID = b"Ab3_-xYz0123456789abcdef" + b"0123456789abcdef" * 2


@pytest.mark.parametrize(
    "path",
    [
        *(b".uploads/%s", b".UPLOADS/%s", b".uploads\\%s", b".uploads//%s/", b".uploads/./x/%s", b".uploads%%2F%s"),
        *(b".uploads%%252f%s", b".%%75ploads/%s", b"%%2euploads/%s", b"%%25252Euploads/%s", b"upload/.uploads/%s"),
        *(b"%s", b"a/%s/b", b"a/%s.png", b".uploads/a/.uploads/%s", b".uploads\0%s", b".uploads.%s"),
    ],
)
@pytest.mark.parametrize("spelled", [ID, b"".join(b"%%%02x" % each for each in ID), quote(quote(ID)).encode()])
def test_of_an_upload_s_id_only_eight_characters_are_shown_however_it_is_spelled(path: bytes, spelled: bytes) -> None:
    shown = unquote_to_bytes(unquote_to_bytes(paths.without_ids(path % spelled)))

    assert ID[:9] not in shown
    assert len(shown) <= len(path) + 10


@pytest.mark.parametrize("path", [b"a/b.png", b"a/uploads/b.png", b"a/my.uploads.txt", b"100%25", b"a/b%zz", b"", b"/"])
def test_a_path_without_an_id_is_shown_as_it_is(path: bytes) -> None:
    assert paths.without_ids(path) == path


def test_a_mac_in_a_path_is_left_to_who_shows_it() -> None:
    path = b"a?v2=" + b"0123456789abcdef" * 4

    assert paths.without_ids(path) == path


@given(depth=st.integers(0, 400))
def test_a_path_that_is_encoded_without_end_costs_little_and_shows_no_id(depth: int) -> None:
    path = b"%" + b"25" * depth + b"2euploads/" + ID

    assert ID[:9] not in paths.without_ids(path)


def test_a_path_that_needs_many_rounds_is_not_shown_at_all() -> None:
    path = b"/" + ID
    for _ in range(6):
        path = b"".join(b"%%%02x" % each for each in path)

    assert paths.without_ids(path) == b"..."
