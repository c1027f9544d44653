"""Files that an operator does not want, as clients meet the refusal: by name, by declaration, by content, in every way
to upload; with two workers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.faces import FACES, Upload
from tests.support import specimens
from tests.support.http import MIB, Answer, Connection, get, put, put_head, query_of, request, url_of
from tests.support.polling import until
from tests.support.server import Server, tree
from tests.support.slot import Slot, face, fresh_token

PROGRAM = specimens.windows_program().ljust(2 * MIB, b"\0")
PAGE = specimens.HTML


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(
        tmp_path_factory.mktemp("strict"),
        NumCores=2,
        BlockedExtensions=["php", ".Exe"],
        BlockedTypes=["text/html", "application/x-dosexec", "image/svg+xml"],
    ) as running:
        yield running


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("narrow"), NumCores=2, AllowedExtensions=["jpg", ".MP4"]) as running:
        yield running


def stored(server: Server) -> list[str]:
    """Everything in the store that holds bytes of users."""
    return [name for name, (kind, *_) in tree(server.store_dir).items() if kind[0] == "-" and "lock" not in name]


@pytest.mark.parametrize("name", ["x.php", "x.PHP", "x.php.jpg", "x.exe.", "x.e\u200bxe", "x\uff0eexe"])
def test_blocked_extensions_are_refused(strict: Server, name: str) -> None:
    answer = put(strict, f"ext/{name}", b"hello")

    assert face(answer) == (403, "extension-refused")
    assert get(strict, f"ext/{name}").status == 404


def test_what_blocked_extensions_do_not_name_is_stored(strict: Server) -> None:
    assert [put(strict, f"ok/{name}", b"hello").status for name in ("a.jpg", "php", "a.phpx", "a")] == [201] * 4


def test_allowed_extensions_alone_are_accepted(narrow: Server) -> None:
    names = ["a.jpg", "a.JPG", "b.php.mp4", "a.png", "a.jpg.exe", "a", "jpg"]

    answers = [put(narrow, f"some/{name}", b"hello") for name in names]

    assert [face(answer) for answer in answers] == [(201, None)] * 3 + [(403, "extension-refused")] * 4


@pytest.mark.parametrize("declared", ["text/html", "TEXT/HTML; charset=utf-8", "application/xhtml+xml"])
def test_blocked_types_are_refused_as_they_are_declared(strict: Server, declared: str) -> None:
    assert face(put(strict, "declared/a", b"hello", declared)) == (403, "type-refused")


@pytest.mark.parametrize(
    "body", [PAGE, specimens.SVG, PROGRAM[:1000], PROGRAM], ids=["page", "drawing", "program", "large"]
)
def test_blocked_types_are_refused_as_they_are(strict: Server, body: bytes) -> None:
    before = stored(strict)

    answer = put(strict, "content/a.jpg", body, "image/jpeg")

    assert face(answer) == (403, "type-refused")
    assert stored(strict) == before


def test_other_content_passes_by_blocked_types(strict: Server) -> None:
    bodies = [specimens.png(), specimens.TEXT, specimens.zipped("a.html"), specimens.mp4() + bytes(MIB), b""]

    assert [put(strict, f"passes/{number}", body).status for number, body in enumerate(bodies)] == [201] * 5


def test_the_policy_is_told_before_the_body_and_to_the_signed_only(strict: Server) -> None:
    wrong = request(
        strict, "PUT", f"{url_of(strict, 'order/a.php')}?v2={'0' * 64}", [("Content-Length", "5")], b"hello"
    )
    with Connection(strict.address) as connection:
        connection.send(put_head(strict, "order/a.php", 10 * MIB, headers=[("Expect", "100-continue")]))
        first = connection.read_head()

    assert face(wrong) == (403, "bad-signature")
    assert face(first) == (403, "extension-refused")


def test_the_policy_comes_before_what_exists(strict: Server, tmp_path: Path) -> None:
    there = strict.store_dir / "there.php"
    there.write_bytes(b"first")

    assert face(put(strict, "there.php", b"hello")) == (403, "extension-refused")
    assert there.read_bytes() == b"first"


@pytest.mark.parametrize("way", FACES)
def test_a_refused_name_begins_no_upload(strict: Server, way: str) -> None:
    before = stored(strict)

    answer = Upload(way, f"begun/{way}.php", PAGE).begin(strict, 10)

    assert face(answer) == (403, "extension-refused")
    assert stored(strict) == before


@pytest.mark.parametrize("way", FACES)
@pytest.mark.parametrize("first", [1, 20, len(PAGE) - 1], ids=["byte by byte", "a little", "nearly all"])
def test_refused_content_in_pieces_is_never_published(strict: Server, way: str, first: int) -> None:
    before = stored(strict)
    upload = Upload(way, f"pieces/{way}-{first}.jpg", PAGE)

    answer = upload.begin(strict, first)
    if answer.status in (201, 202):  # it was too little to tell
        answer = upload.send(strict, first, len(PAGE))

    assert face(answer) == (403, "type-refused")
    assert get(strict, upload.path).status == 404
    assert stored(strict) == before


def test_refused_content_whose_beginning_comes_last_is_never_published(strict: Server) -> None:
    before = stored(strict)
    slot, token = Slot(strict, "backwards/a.jpg", len(PAGE)), fresh_token()
    assert slot.piece(0, PAGE[:1], token).status == 202
    assert slot.piece(10, PAGE[10:], token).status == 202

    assert face(slot.piece(1, PAGE[1:10], token)) == (403, "type-refused")
    assert stored(strict) == before


@pytest.mark.parametrize(
    "send",
    [
        lambda slot: slot.put(PAGE, [("X-Session-Token", fresh_token())]),
        lambda slot: slot.create_tus(PAGE),
        lambda slot: slot.put(PAGE, [("Upload-Complete", "?1")]),
    ],
    ids=["session", "tus", "draft"],
)
def test_refused_content_in_one_piece_is_not_kept(strict: Server, send: Callable[[Slot], Answer]) -> None:
    before = stored(strict)

    assert face(send(Slot(strict, "whole/a.jpg", len(PAGE)))) == (403, "type-refused")
    assert stored(strict) == before


def test_a_refusal_names_the_rule_in_the_log_and_not_to_the_client(strict: Server) -> None:
    answer = put(strict, "log/secret-plan.php", b"hello")

    assert b"php" not in answer.body
    (line,) = until(lambda: strict.lines("log/secret-plan.php"), "the request line is written")
    assert 'detail="BlockedExtensions: .php"' in line
    assert query_of(strict, "log/secret-plan.php", 5) not in strict.output()
