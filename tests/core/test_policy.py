"""Which files an operator does not want: extensions as systems read them, types as declared and as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core import policy
from hmacfs.core.policy import ANYTHING, Policy
from hmacfs.core.sniffing import FIRST_BLOCK
from hmacfs.errors import ExtensionRefused, TypeRefused
from tests.support import specimens

PLAIN = "application/octet-stream"


def accepts(judge: Policy, name: str, content_type: str = PLAIN) -> bool:
    try:
        judge.check(name, content_type)
    except (ExtensionRefused, TypeRefused):
        return False
    return True


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", ".jpg"),
        ("a.JPG", ".jpg"),
        ("a.tar.gz", ".tar.gz"),
        ("a..jpg", ".jpg"),
        ("a.jpg.", ".jpg"),
        ("a.jpg. . ", ".jpg"),
        ("a.jpg ", ".jpg"),
        ("a. jpg", ".jpg"),
        ("a", ""),
        ("a.", ""),
        ("...", ""),
        (".htaccess", ".htaccess"),
        ("a.php.jpg", ".php.jpg"),
        ("a.asp;.jpg", ".asp.jpg"),
        ("a.exe:stream", ".exe"),
        ("a.exe::$DATA", ".exe"),
        ("a\uff0eexe", ".exe"),
        ("a\u2024exe", ".exe"),
        ("a.\uff45\uff58\uff45", ".exe"),
        ("a.e\u200bx\u00ade", ".exe"),
        ("photo\u202egpj.exe", ".exe"),
        ("a.\u212ahtml", ".khtml"),
        ("a.\ufb01le", ".file"),
        ("a.txt\u00a0", ".txt"),
        ("a.\u00e9xe", ".\u00e9xe"),
    ],
)
def test_extensions_are_those_that_a_system_would_see(name: str, expected: str) -> None:
    assert policy.extensions(name) == expected


@given(st.text(max_size=40))
def test_a_name_that_was_read_reads_the_same(name: str) -> None:
    found = policy.extensions(name)

    assert policy.extensions(found) == found
    assert found == "" or found.startswith(".")


@pytest.mark.parametrize("entry", ["php", ".php", "PHP", ".PhP"])
@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("a.php", False),
        ("a.PHP", False),
        ("a.php.jpg", False),
        ("a.jpg.php", False),
        ("a.php.", False),
        ("a.php ", False),
        (".php", False),
        ("a.php5", True),
        ("php", True),
        ("a.jpg", True),
        ("a", True),
    ],
)
def test_a_blocked_extension_is_refused_wherever_it_stands(entry: str, name: str, accepted: bool) -> None:
    assert accepts(policy.make([], [entry], []), name) is accepted


@pytest.mark.parametrize("entry", ["jpg", ".jpg", "JPG"])
@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("a.jpg", True),
        ("a.JPG", True),
        ("my.holiday.jpg", True),
        ("a.jpg.", True),
        ("a.jpg.exe", False),
        ("a.notjpg", False),
        ("jpg", False),
        ("a", False),
        ("a.", False),
    ],
)
def test_the_last_extension_must_be_an_allowed_one(entry: str, name: str, accepted: bool) -> None:
    assert accepts(policy.make([entry], [], []), name) is accepted


def test_an_empty_entry_is_a_name_without_an_extension() -> None:
    allowing, blocking = policy.make(["", "jpg"], [], []), policy.make([], [""], [])

    assert [accepts(allowing, name) for name in ("a", "a.", "a.jpg", "a.exe")] == [True, True, True, False]
    assert [accepts(blocking, name) for name in ("a", "a.", "a.jpg")] == [False, False, True]


def test_an_entry_of_two_extensions_stands_for_both_together() -> None:
    allowing, blocking = policy.make(["tar.gz"], [], []), policy.make([], [".tar.gz"], [])

    assert [accepts(allowing, name) for name in ("a.tar.gz", "a.gz", "a.tar")] == [True, False, False]
    assert [accepts(blocking, name) for name in ("a.tar.gz", "a.tar.gz.x", "a.gz", "a.gz.tar")] == [
        False,
        False,
        True,
        True,
    ]


def test_what_is_blocked_stays_blocked_beside_what_is_allowed() -> None:
    judge = policy.make(["jpg"], ["php"], [])

    assert [accepts(judge, name) for name in ("a.jpg", "a.php.jpg", "a.php")] == [True, False, False]


@pytest.mark.parametrize(
    ("declared", "accepted"),
    [
        ("text/html", False),
        ("Text/HTML; charset=utf-8", False),
        ("text/html;", False),
        (" text/html ", False),
        ("application/xhtml+xml", False),
        ("text/htmlx", True),
        ("text/plain", True),
        ("image/svg+xml", False),
        ("IMAGE/anything", False),
        ("images/x", True),
        ("nonsense", True),
        ("text/plain, text/html", False),
        ("text/html ,x", False),
        ("text/plain,x", True),
        (PLAIN, True),
    ],
)
def test_a_declared_type_is_judged_without_its_parameters(declared: str, accepted: bool) -> None:
    assert accepts(policy.make([], [], ["Text/Html", "image/*"]), "a", declared) is accepted


def told(judge: Policy, content: bytes, *, cut: int, total: int | None = None) -> int:
    """Bytes after which the content is refused, handed over in blocks of ``cut``; -1 for never."""
    watch = judge.first_block(len(content) if total is None else total)
    assert watch is not None
    for at in range(0, len(content), cut):
        try:
            watch.update(memoryview(content)[at : at + cut])
        except TypeRefused:
            return min(at + cut, len(content))
    return -1


@pytest.mark.parametrize("pattern", ["application/x-dosexec", "application/x-msdownload", "application/*"])
def test_content_is_refused_under_any_of_its_names_when_its_first_block_is_there(pattern: str) -> None:
    judge = policy.make([], [], [pattern])
    content = specimens.windows_program().ljust(3 * FIRST_BLOCK, b"\0")

    assert [told(judge, content, cut=cut) for cut in (1, 4096, FIRST_BLOCK)] == [FIRST_BLOCK] * 3
    assert told(judge, content, cut=3 * FIRST_BLOCK) == 3 * FIRST_BLOCK


def test_a_short_file_is_judged_with_its_last_byte() -> None:
    judge = policy.make([], [], ["text/x-shellscript"])

    assert told(judge, specimens.SCRIPT, cut=1) == len(specimens.SCRIPT)


def test_other_content_passes() -> None:
    judge = policy.make([], [], ["application/x-dosexec", "text/html"])

    for content in (specimens.png(), specimens.TEXT, b"", specimens.zipped("a")):
        assert told(judge, content, cut=100) == -1


def test_a_beginning_that_is_shorter_than_the_first_block_says_nothing_yet() -> None:
    watch = policy.make([], [], ["text/html"]).first_block(10**6)
    assert watch is not None

    watch.update(memoryview(specimens.HTML))

    assert not watch.has_judged
    with pytest.raises(TypeRefused):
        watch.update(bytes(FIRST_BLOCK))
    assert watch.has_judged


def test_without_rules_everything_may_come_and_nothing_is_watched() -> None:
    assert policy.make([], [], []) is ANYTHING
    assert ANYTHING.first_block(100) is None
    assert accepts(ANYTHING, "a.exe", "application/x-dosexec")
