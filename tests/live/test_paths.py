"""Paths: spellings, bytes that cannot be stored, and what else may lie in a store."""

import os
import socket
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.support.http import get, mac, put, request, sign_v2, url_of
from tests.support.leaks import Kind
from tests.support.polling import until
from tests.support.server import Server, tree


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Without a URL prefix."""
    with Server(tmp_path_factory.mktemp("bare"), UploadSubDir="") as running:
        yield running


def spellings(path: str) -> list[str]:
    """Percent-encodings of one path."""
    raw = path.encode()
    full = "".join(f"%{byte:02X}" for byte in raw)
    mixed = "".join(
        chr(byte) if number % 2 and chr(byte).isalnum() and byte < 128 else f"%{byte:02{'xX'[number % 3 == 0]}}"
        for number, byte in enumerate(raw)
    )
    return [quote(raw, safe="/"), quote(raw, safe="/!$&'()*+,;=:@-._~"), full, full.lower(), mixed]


BAD_PATHS = [
    b"..",
    b"../outside",
    b"a/../b",
    b"a/..",
    b"a/./b",
    b".",
    b"./a",
    b"a//b",
    b"/a",
    b"a/",
    b"a\0b",
    b"\0",
    b"a\nb",
    b"a\x1b[31mb",
    b"a\x7fb",
    b"a/\x1f",
    b"\xff",
    b"a/\xc3",
    b"a/\xed\xa0\x80",  # a surrogate
    b"a/\xc0\xae\xc0\xae/b",  # an overlong ".."
    b"a/" + b"x" * 256,
    b"/".join([b"y" * 200] * 5) + b"/" + b"z" * 20,  # 1025 bytes
    b"/".join([b"s"] * 9),
    b".hidden",
    b".hmacfs/staging/x",
    b".upload/x",
    b"...",
]


@pytest.mark.parametrize("path", ["spell/~a+b c-é_%41.txt", "spell/𝄞 (1)!$&'*,;=:@"])
def test_every_spelling_of_a_url_is_one_file(server: Server, path: str) -> None:
    content_type = "text/plain"
    mac = sign_v2(server.secret, path.encode(), 4, content_type)
    headers = [("Content-Length", "4"), ("Content-Type", content_type)]
    first, *others = spellings(path)
    assert len({first, *others}) >= 4

    created = request(server, "PUT", f"/upload/{first}?v2={mac}", headers, b"body")

    assert created.status == 201
    for spelling in others:
        assert request(server, "GET", f"/upload/{spelling}").body == b"body"
        assert request(server, "PUT", f"/upload/{spelling}?v2={mac}", headers, b"body").status == 409


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("Case", "case"),
        ("a+b", "a b"),
        ("%41", "A"),
        ("%2e", "."),
        ("a\\b", "a%5Cb"),
        ("end", "end "),
        ("end", "end."),
        ("\ufb01", "fi"),
        ("ß", "ss"),
    ],
)
def test_two_byte_strings_are_two_files(server: Server, one: str, other: str) -> None:
    folder = f"pair-{mac(one, other.encode())[:8]}/x"

    assert put(server, folder + one, b"one").status == 201
    assert put(server, folder + other, b"other").status == 201
    assert get(server, folder + one).body == b"one"
    assert get(server, folder + other).body == b"other"


def test_a_backslash_is_an_ordinary_byte(server: Server) -> None:
    assert put(server, "back\\slash\\..\\name", b"x").status == 201
    assert (server.store_dir / "back\\slash\\..\\name").read_bytes() == b"x"


@pytest.mark.shows(Kind.QUERY, because="the question mark is part of the path, which is logged")
def test_a_query_character_in_percent_form_belongs_to_the_path(server: Server) -> None:
    assert put(server, "what?/v=1&v2=2#frag", b"x").status == 201
    assert (server.store_dir / "what?" / "v=1&v2=2#frag").read_bytes() == b"x"
    until(lambda: server.lines('PUT "what?'), "the request is logged, within the test that may show it")


def test_a_path_at_the_limits_is_stored(server: Server) -> None:
    longest_name = "limits/" + "n" * 255
    longest_path = "/".join(["p" * 204] * 5)
    assert len(longest_path) == 1024

    assert put(server, longest_name, b"x").status == 201
    assert put(server, longest_path, b"x").status == 201
    assert get(server, longest_name).body == b"x"
    assert get(server, longest_path).body == b"x"


SPELLED_BAD_PATHS = [
    *(("".join(f"%{byte:02x}" for byte in raw), raw) for raw in BAD_PATHS),
    *((raw.decode(), raw) for raw in BAD_PATHS if all(0x20 < byte < 0x7F for byte in raw)),
]


@pytest.mark.parametrize(("spelled", "raw"), SPELLED_BAD_PATHS, ids=lambda text: repr(text[:24]))
def test_a_path_that_cannot_be_stored_is_400_and_changes_nothing(server: Server, spelled: str, raw: bytes) -> None:
    typed = [("Content-Length", "1"), ("Content-Type", "text/plain")]
    signed = f"/upload/{spelled}?v2={sign_v2(server.secret, raw, 1, 'text/plain')}"
    before = everything(server)

    answers = [
        request(server, "PUT", signed, typed, b"x"),
        request(server, "GET", f"/upload/{spelled}"),
        request(server, "HEAD", f"/upload/{spelled}"),
        request(server, "POST", f"/upload/{spelled}"),  # the path is judged before the method
    ]

    assert [(answer.status, answer.code) for answer in answers] == [(400, "bad-path")] * 4
    assert everything(server) == before


@pytest.mark.parametrize("target", ["/upload", "/upload/", "/", "//", "/uploads/x", "/other", "//upload/x"])
def test_the_prefix_itself_and_what_is_beside_it_is_404_and_never_redirected(server: Server, target: str) -> None:
    for method in ("GET", "HEAD"):
        answer = request(server, method, target)

        assert (answer.status, answer.code) == (404, "not-found")
        assert answer.get("Location") is None


@pytest.mark.parametrize("target", ["//x", "/x//y", "/x/../y", "/%2e%2e/x", "/.", "/x/%2e"])
def test_without_a_prefix_the_same_paths_are_refused(bare: Server, target: str) -> None:
    assert request(bare, "GET", target).status == 400


def test_without_a_prefix_the_root_is_404(bare: Server) -> None:
    assert request(bare, "GET", "/").status == 404


def test_a_directory_is_404(server: Server) -> None:
    put(server, "folder/file", b"x")

    assert get(server, "folder").status == 404
    assert get(server, "folder", method="HEAD").status == 404


def test_a_file_as_a_directory_is_a_conflict(server: Server) -> None:
    put(server, "as-folder", b"x")

    refused = put(server, "as-folder/below", b"y")

    assert (refused.status, refused.code) == (409, "path-conflict")
    assert get(server, "as-folder/below").status == 404
    assert get(server, "as-folder").body == b"x"


def test_a_directory_as_a_file_is_a_conflict(server: Server) -> None:
    put(server, "as-file/below", b"x")

    refused = put(server, "as-file", b"y")

    assert (refused.status, refused.code) == (409, "path-conflict")
    assert get(server, "as-file/below").body == b"x"


def test_symlinks_in_the_store_are_not_followed(server: Server) -> None:
    outside = server.folder / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"outside")
    put(server, "linked/inside", b"inside")
    links = server.store_dir / "links"
    links.mkdir()
    (links / "to-file").symlink_to(outside / "secret")
    (links / "to-folder").symlink_to(outside)
    (links / "to-nothing").symlink_to(outside / "absent")
    (links / "to-inside").symlink_to("../linked/inside")
    (links / "to-inside-folder").symlink_to("../linked")
    (server.store_dir / "top-link").symlink_to(outside)
    paths = [
        "links/to-file",
        "links/to-folder",
        "links/to-folder/secret",
        "links/to-nothing",
        "links/to-inside",
        "links/to-inside-folder/inside",
        "top-link/secret",
    ]
    fresh = ["links/to-folder/fresh", "links/to-inside-folder/fresh", "top-link/fresh"]
    before = everything(server)

    fetched = [get(server, path).status for path in paths]
    stored = [put(server, path, b"overwritten").status for path in (*paths, *fresh)]

    assert fetched == [404] * len(paths)
    assert stored == [409] * (len(paths) + len(fresh))
    assert everything(server) == before
    assert (outside / "secret").read_bytes() == b"outside"
    assert get(server, "linked/inside").body == b"inside"


def test_a_fifo_or_socket_in_the_store_is_404_and_does_not_hang(server: Server) -> None:
    os.mkfifo(server.store_dir / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(server.store_dir / "sock"))

        assert get(server, "fifo").status == 404
        assert get(server, "sock").status == 404
        assert put(server, "fifo", b"x").status == 409


def test_url_of_a_stored_path_needs_no_normalising(server: Server) -> None:
    put(server, "semi;colon/a=b,c", b"x")

    assert request(server, "GET", url_of(server, "semi;colon/a=b,c")).body == b"x"
    assert request(server, "GET", "/upload/semi;colon/a=b,c").body == b"x"


def everything(server: Server) -> dict[str, tuple[str, int, str]]:
    """All files around the store, except for the log and the database, which are written behind the answers."""
    ours = (str(server.output_file), str(server.state_dir / "state.db"))
    return {path: what for path, what in tree(server.folder).items() if not path.startswith(ours)}
