"""What somebody does on the first day, in README.md's own words: run it, upload, fetch, look, and stop it."""

import os
import re
import shlex
import signal
from pathlib import Path
from urllib.parse import urlsplit

from tests.install.clone import MakeRun, same, shell
from tests.install.page import commands
from tests.support.http import MIB, Connection, head_of
from tests.support.metrics import parsed
from tests.support.polling import until

WORKERS = 2
SIZE = MIB + 1
"""Of the upload that Ctrl-C meets: nothing that is collected in memory and stored in one step."""


def told_to_type(folder: Path, words: str) -> str:
    """The one command of the section "Run it" that has ``words`` in it."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## Run it\n")[2].partition("\n## ")[0]
    (line,) = (line for line in commands(section) if words in line)
    return line


def counted(run: MakeRun) -> tuple[int, int]:
    """Uploads and downloads, as the command of README.md for /metrics tells them."""
    scrape = parsed(run.typed(told_to_type(run.folder, "/metrics")))
    names = ("hmac_file_server_uploads_total", "hmac_file_server_downloads_total")
    uploads, downloads = (int(scrape.value(name)) for name in names)
    return uploads, downloads


def lines_of_status(run: MakeRun) -> dict[str, str]:
    """First word of each line to the rest of it."""
    lines = run.typed(told_to_type(run.folder, "hmacfs status")).splitlines()
    return dict(re.split(r"  +", line, maxsplit=1) for line in lines)


def begun_upload(run: MakeRun, body: bytes) -> Connection:
    """An upload of which the first half has arrived; the server knows of it."""
    put = run.typed(f"hmacfs sign --size {len(body)} walk/{os.urandom(4).hex()}.bin").splitlines()[0]
    url = urlsplit(next(word for word in shlex.split(put) if word.startswith("http:")))
    connection = Connection(run.address)
    connection.send(head_of("PUT", f"{url.path}?{url.query}", [("Content-Length", str(len(body)))]))
    connection.send(body[: len(body) // 2])
    until(lambda: lines_of_status(run)["Now"].startswith("1 upload,"), "the upload is on its way")
    return connection


def is_refused(run: MakeRun) -> bool:
    try:
        Connection(run.address).sock.close()
    except ConnectionRefusedError:
        return True
    return False


def test_the_first_upload_is_fetched_and_counted_and_ctrl_c_lets_another_one_finish(
    clone: Path, tmp_path: Path
) -> None:
    body = os.urandom(SIZE)
    with MakeRun(clone, HMACFS_NUMCORES=str(WORKERS), HMACFS_MONITORINTERVAL="1h") as run:
        until(lambda: run.out.count("State tier: ") == WORKERS, "every worker has said what it says at its start")
        (link,) = shell(run.line_to_try(), tmp_path, run.env).splitlines()
        shell(shlex.join(["curl", "--fail", "--silent", "-o", "fetched", link]), tmp_path, run.env)
        until(lambda: counted(run) == (1, 1), "one upload and one download are counted")
        until(lambda: lines_of_status(run)["Completed"] == "1 upload, 1 download", "status agrees")
        well = lines_of_status(run)["Health"]
        with begun_upload(run, body) as upload:
            before = run.out

            run.signal(signal.SIGINT)
            until(lambda: is_refused(run), "the server stops")
            upload.send(body[len(body) // 2 :])
            answer = upload.read_answer()

        ended = run.process.wait(20)
        until(lambda: not run.group(), "all processes end")
        said = [line.partition("] ")[2] for line in run.out.removeprefix(before).splitlines()]

    assert same(tmp_path / "fetched", Path(shlex.split(run.line_to_try())[-1]))
    assert well == "ready"
    assert answer.status == 201
    assert (clone / "data" / "store" / answer["Location"].removeprefix("/upload/")).read_bytes() == body
    assert [" ".join(line.split()[:2]) for line in said] == ["Upload completed:", "Incoming request:", "Stopped"]
    assert " status=201 " in said[1]
    # make ends by the signal itself, as the shell expects; it would name the exit status of a server that failed.
    assert (ended, run.err) == (-signal.SIGINT, "")
