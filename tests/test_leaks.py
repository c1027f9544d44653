"""The search for leaks finds what is planted, and nothing that is shown on purpose; and a test with a leak fails."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.leaks import Kind, Known
from tests.support.server import ROOT

MAC = "0f1e2d3c4b5a69788796a5b4c3d2e1f0" * 2
SECRET = "planted-secret-that-nobody-may-see"
PASSWORD = "zwölf Boxer"
TOKEN = "PlantedTokenOfASession-x"
ID = "Q2hvb3NlIGFuIGlkIQ_planted-id-of-an-upload-with-56-letters"
JWT = "eyJhbGciOiAiSFMyNTYifQ.eyJzbG90IjogImEifQ.c2lnbmF0dXJl"

PLANTED = [
    (Kind.MAC, f"Signature refused mac={MAC}", MAC),
    (Kind.MAC, f'{{"detail": "{MAC.upper()}"}}', MAC.upper()),
    (Kind.TOKEN, f"Authorization: Bearer {JWT}", JWT),
    (Kind.ID, f"GET .uploads/{ID} status=200", ID),
    (Kind.ID, f"GET .uploads/{ID[:9]} status=200", ID[8:9] + " "),
    (Kind.ID, f"session {ID} ended", ID),
    (Kind.QUERY, "GET a/b?version=3&v3=0 status=200", "version=3"),
    (Kind.QUERY, "GET a/b?v2=short status=403", "v2=short"),
    (Kind.QUERY, "GET a/b?versions status=200", "versions"),
    (Kind.QUERY, "GET a/b%3Ftoken%3Dabc status=200", "abc"),
    (Kind.QUERY, "referer http://host/x&expires=1800000000", "1800000000"),
    (Kind.SECRET, f"Settings(secret='{SECRET}')", SECRET),
    (Kind.SECRET, f"the secret begins with {SECRET[:16]}", SECRET[:16]),
    (Kind.SECRET, f"of the middle: {SECRET[2:33]}", SECRET[2:33]),
    (Kind.SECRET, f"password={PASSWORD}", PASSWORD),
    (Kind.SECRET, 'password="zw\\u00f6lf Boxer"', "Boxer"),
    (Kind.TOKEN, f"hmacfs_sessions{{token={TOKEN!r}}} 1", TOKEN),
]

HARMLESS = [
    f"GET .uploads/{ID[:8]} status=200",
    "GET a/b?v=[64-hex-digits] status=404",
    f"sha512={MAC * 2}",
    f"inode {MAC[:40]}",
    "redis://[user:password@]host:port/db or unix:///path/to/socket?db=0",
    "what? a=b, and why? because: token=none protocol=v2",
    f"a planted secret of {len(SECRET)} characters",
]


@pytest.fixture
def known() -> Known:
    known = Known()
    known.add(Kind.SECRET, SECRET)
    known.add(Kind.SECRET, PASSWORD)
    known.add(Kind.TOKEN, TOKEN)
    known.add(Kind.ID, ID)
    return known


@pytest.mark.parametrize(("kind", "line", "value"), PLANTED)
def test_a_planted_leak_is_told_with_its_place_and_its_line_masked(
    known: Known, kind: Kind, line: str, value: str
) -> None:
    found = known.search("stdout of hmacfs serve", f"before\n{line}\nbehind\n")

    told = [str(leak) for leak in found if leak.kind is kind]
    assert len(told) == 1
    assert told[0].startswith(f"stdout of hmacfs serve shows a {kind.value}: ")
    assert f"<{kind.value}>" in told[0] or "<MAC>" in told[0]
    assert not [text for text in map(str, found) if value in text]
    assert "before" not in told[0]


@pytest.mark.parametrize("line", HARMLESS)
def test_what_is_shown_on_purpose_is_no_leak(known: Known, line: str) -> None:
    assert known.search("log", line) == []


def test_what_a_command_prints_on_purpose_is_no_leak_and_the_rest_is(known: Known) -> None:
    found = known.search("log", f"http://host/a?v2={MAC}\n{SECRET}\n", {Kind.MAC, Kind.QUERY})

    assert [leak.kind for leak in found] == [Kind.SECRET]


def test_a_leak_in_a_long_line_is_told_in_a_short_sentence(known: Known) -> None:
    (leak,) = known.search("log", "x " * 5000 + SECRET + " y" * 5000)

    assert len(leak.line) <= 160
    assert "<secret>" in leak.line


def test_a_value_too_short_to_be_told_from_a_word_is_not_looked_for(known: Known) -> None:
    known.add(Kind.SECRET, "short")

    assert known.search("log", "Secret is too short") == []


# --- a test that ends with a leak ---

HEAD = f"""
import gzip, logging, os, subprocess, sys
from pathlib import Path
from hmacfs.telemetry import logs
from tests.cli.running import hmacfs
from tests.support.http import get, put, query_of, request, url_of
from tests.support.leaks import Kind, handed_out, wrote
from tests.support.polling import until
from tests.support.server import Server
SECRET, MAC = {SECRET!r}, {MAC!r}
LOUD = "import sys, hmacfs; print(*sys.argv[1:])"
"""


def outcome(folder: Path, body: str, *, prefix: str = "") -> str:
    """What a run of one test with this body prints; each has a session of its own."""
    lines = "".join(f"    {line}\n" for line in body.strip().split("\n"))
    file = folder / "test_planted.py"
    file.write_text(f"{HEAD}{prefix}\ndef test_planted(tmp_path):\n{lines}", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "setup.cfg"), "--rootdir", str(folder)]
    command += ["-p", "tests.conftest", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", str(folder / "temp")]
    done = subprocess.run([*command, str(file)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


IN_A_TEST = {
    "process": (
        "subprocess.run([sys.executable, '-c', LOUD, f'mac={MAC}'], capture_output=True)",
        "stdout of hmacfs",
        Kind.MAC,
    ),
    "file of a process": (
        "with open(tmp_path / 'out', 'w') as out:\n"
        "    subprocess.run([sys.executable, '-c', LOUD, 'a?v2=x'], stdout=out)\n"
        "os.unlink(tmp_path / 'out')",
        "(out)",
        Kind.QUERY,
    ),
    "inherited output": ("subprocess.run([sys.executable, '-c', LOUD, f'mac={MAC}'])", "Captured stdout", Kind.MAC),
    "captured": ("print('GET', f'/a?v={MAC}')", "Captured stdout call", Kind.QUERY),
    "record": (
        "logging.getLogger('hmacfs').warning('refused', extra={'fields': {'token': MAC}})",
        "a record of hmacfs",
        Kind.MAC,
    ),
    "line": ("logs.write_line('GET a?version=1')", "the log", Kind.QUERY),
    "exception": (
        "try:\n    raise ValueError(MAC)\nexcept ValueError:\n    logging.getLogger('hmacfs').exception('Unforeseen')",
        "a record of hmacfs",
        Kind.MAC,
    ),
    "handed out later": ("wrote('log', f'begun {SECRET}')\nhanded_out(Kind.SECRET, SECRET)", "log", Kind.SECRET),
}


@pytest.mark.parametrize(("body", "place", "kind"), IN_A_TEST.values(), ids=IN_A_TEST)
def test_a_test_in_which_hmacfs_shows_a_secret_thing_fails(tmp_path: Path, body: str, place: str, kind: Kind) -> None:
    told = outcome(tmp_path, body)

    assert "1 passed, 1 error" in told, told
    assert "ERROR at teardown of test_planted" in told
    assert [line for line in told.split("\n") if place in line and f"shows a {kind.value}: " in line], told


def test_output_that_a_test_keeps_to_itself_fails_it(tmp_path: Path) -> None:
    told = outcome(
        tmp_path,
        "with subprocess.Popen([sys.executable, '-c', LOUD, 'x'], stdout=subprocess.PIPE) as process:\n"
        "    process.stdout.read()",
    )

    assert "1 passed, 1 error" in told, told
    assert "was read by the test and not searched" in told


def test_a_test_may_say_what_it_makes_hmacfs_show(tmp_path: Path) -> None:
    marked = "import pytest\n@pytest.mark.shows(Kind.QUERY, because='it is a path')"

    told = outcome(tmp_path, "wrote('log', 'GET a?x=1')", prefix=marked)

    assert "1 passed" in told
    assert "error" not in told, told


@pytest.mark.parametrize(("command", "streams"), [("sign", ["stderr"]), ("status", ["stdout", "stderr"])])
def test_a_command_may_print_what_it_is_for_and_no_more(tmp_path: Path, command: str, streams: list[str]) -> None:
    told = outcome(
        tmp_path,
        "loud = LOUD + '; print(sys.argv[-1], file=sys.stderr)'\n"
        f"words = ['hmacfs.cli.main', {command!r}, f'http://host/a?v2={{MAC}}']\n"
        "subprocess.run([sys.executable, '-c', loud, *words], capture_output=True)",
    )

    shown = [each for each in ("stdout", "stderr") if f"{each} of hmacfs {command} shows a query string" in told]
    assert shown == streams, told


# --- a real server ---

UPLOAD = """
with Server(tmp_path, code=Path({code!r}), LogFile="server.log", LogLevel="info", {keys}) as server:
    assert put(server, "a/b", b"content").status == 201
    log = tmp_path / "server.log"
    until(lambda: "Incoming request: PUT " in log.read_text(), "it is logged")
    {then}
"""
PATH_OF_THE_LOG = "path=_shown(url_path if raw is None else raw),"


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that shows the query in the path that it logs."""
    folder = tmp_path_factory.mktemp("loose")
    subprocess.run(["cp", "-r", str(ROOT / "hmacfs"), str(folder)], check=True)
    files = folder / "hmacfs" / "web" / "files.py"
    text = files.read_text(encoding="utf-8")
    assert text.count(PATH_OF_THE_LOG) == 1
    changed = PATH_OF_THE_LOG.replace(",", ' + "?" + environ.get("QUERY_STRING", ""),')
    files.write_text(text.replace(PATH_OF_THE_LOG, changed), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "then",
    ["pass", "os.rename(log, f'{log}.1')", "Path(f'{log}.1.gz').write_bytes(gzip.compress(log.read_bytes()))"],
    ids=["as it is", "moved", "packed"],
)
def test_a_server_that_logs_the_query_string_fails_the_test_that_sent_it(
    tmp_path: Path, loose: Path, then: str
) -> None:
    told = outcome(tmp_path, UPLOAD.format(code=str(loose), keys="", then=then))

    assert "1 passed, 1 error" in told, told
    line = next(line for line in told.split("\n") if "shows a query string" in line)
    assert line.startswith("logfile of hmacfs serve (server.log")
    assert 'PUT "a/b<query string>" status=201' in line
    assert "v2=" not in told


def test_the_server_as_it_is_passes_the_same_test(tmp_path: Path) -> None:
    told = outcome(tmp_path, UPLOAD.format(code=str(ROOT), keys="", then="pass"))

    assert "1 passed in" in told, told
