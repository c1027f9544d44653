"""A secret is replaced on a running server of two workers, under load (ReaskSecretEnabled and its relatives)."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.http import put
from tests.support.polling import until
from tests.support.server import Server

OLD, NEW = "the-old-secret-of-this-server-1", "the-new-secret-of-this-server-2"
GRACE = 4
SWIFT = {"hmacfs.services.secrets:LOOK_SECONDS": 0.2}
STEADY_SECONDS = 1.5
"""So long without a refusal means that every worker has a secret: each of them takes connections all the time."""

_numbers = itertools.count()


@dataclass(frozen=True)
class Signer:
    """An XMPP server with a secret of its own."""

    server: Server
    secret: str

    @property
    def address(self) -> tuple[str, int] | str:
        return self.server.address

    @property
    def prefix(self) -> str:
        return self.server.prefix

    def put(self) -> int:
        """The status of an upload to a path that nobody has used."""
        return put(self, f"load/{next(_numbers)}", b"content").status


@dataclass
class Load:
    """Uploads with one secret, one after the other. Attributes: seen: when each began and its status."""

    signer: Signer
    seen: list[tuple[float, int]] = field(default_factory=list)

    def statuses(self, first: float, last: float) -> set[int]:
        """Of uploads that began between the two moments."""
        return {status for moment, status in self.seen if first <= moment < last}

    def is_steady(self, status: int) -> bool:
        """Whether nothing but ``status`` was answered for a while."""
        now = time.time()
        recent = [got for moment, got in self.seen if moment > now - STEADY_SECONDS]
        return len(recent) >= 10 and set(recent) == {status} and self.seen[0][0] < now - STEADY_SECONDS

    def run(self, end: threading.Event) -> None:
        while not end.is_set():
            began = time.time()
            self.seen.append((began, self.signer.put()))
            end.wait(0.01)


@contextmanager
def loads(*signers: Signer) -> Iterator[list[Load]]:
    """Two streams of uploads with each secret."""
    end = threading.Event()
    running = [Load(signer) for signer in signers for _ in range(2)]
    threads = [threading.Thread(target=load.run, args=(end,)) for load in running]
    for thread in threads:
        thread.start()
    try:
        yield running
    finally:
        end.set()
        for thread in threads:
            thread.join()


def write(path: Path, text: str) -> None:
    """Replace a file in one step, as a careful operator does."""
    draft = path.with_suffix(".new")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def rotate_by_file(server: Server) -> None:
    write(server.folder / "secret.txt", f"{NEW}\n")


def rotate_by_command(server: Server) -> None:
    write(server.folder / "printed.txt", NEW)


def rotate_by_configuration(server: Server) -> None:
    server.write_config(Secret=NEW)


def rotate_by_hangup(server: Server) -> None:
    server.write_config(Secret=NEW)
    server.signal(signal.SIGHUP)


def server_in(folder: Path, source: str) -> Server:
    """A server of two workers that has the old secret from this source."""
    write(folder / "secret.txt", f"{OLD}\n")
    write(folder / "printed.txt", OLD)
    reask = {} if source == "hangup" else {"ReaskSecretEnabled": True, "ReaskSecretInterval": 1}
    sources: dict[str, dict[str, object]] = {
        "file": {"Secret": "", "SecretFile": "secret.txt"},
        "command": {"Secret": "", "SecretCommand": ["cat", str(folder / "printed.txt")]},
        "configuration": {"Secret": OLD},
        "hangup": {"Secret": OLD},
    }
    return Server(folder, NumCores=2, SecretGrace=GRACE, constants=SWIFT, **sources[source], **reask)


ROTATIONS = {
    "file": rotate_by_file,
    "command": rotate_by_command,
    "configuration": rotate_by_configuration,
    "hangup": rotate_by_hangup,
}


def test_secret_command_prints_what_verifies_in_every_worker(tmp_path: Path) -> None:
    with server_in(tmp_path, "command") as server:
        statuses = {
            (signer.secret, signer.put()) for _ in range(10) for signer in (Signer(server, OLD), Signer(server, NEW))
        }

    assert statuses == {(OLD, 201), (NEW, 403)}


@pytest.mark.parametrize("source", ROTATIONS)
def test_during_secret_grace_no_upload_is_refused_and_afterwards_the_old_secret_is(source: str, tmp_path: Path) -> None:
    with server_in(tmp_path, source) as server, loads(Signer(server, OLD), Signer(server, NEW)) as running:
        old, new = running[:2], running[2:]
        until(lambda: all(load.is_steady(201) for load in old), "the old secret is accepted")
        until(lambda: all(load.is_steady(403) for load in new), "the new secret is not known yet")

        rotated = time.time()
        ROTATIONS[source](server)
        until(lambda: all(load.is_steady(201) for load in new), "every worker knows the new secret")
        known = time.time()
        until(lambda: all(load.is_steady(403) for load in old), "the old secret is refused", patience=GRACE + 30)
        over = time.time()

    for load in old:
        assert load.statuses(0, rotated) == {201}
        assert load.statuses(rotated, rotated + GRACE - 1) == {201}
    for load in new:
        assert load.statuses(known - STEADY_SECONDS, over) == {201}
    assert over - rotated < GRACE + 15
    (told,) = server.lines("The secret was replaced")  # in the same words, whoever reads it
    assert told.endswith(f"the old one verifies for {GRACE} s more")
    assert not any(secret in server.output() for secret in (OLD, NEW))


def test_reask_secret_enabled_gives_the_new_secret_after_reask_secret_interval_to_later_workers_too(
    tmp_path: Path,
) -> None:
    with server_in(tmp_path, "configuration") as server:
        old, new = Signer(server, OLD), Signer(server, NEW)
        server.write_config(Secret=NEW)  # and no SIGHUP: the master's settings have the old one for ever
        until(lambda: new.put() == 201, "the new secret is known")

        before = server.worker_pids()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(set(server.ready_workers()) - set(before)) == 2, "two new workers are ready")
        statuses = {(signer.secret, signer.put()) for _ in range(10) for signer in (old, new)}

    assert statuses == {(OLD, 201), (NEW, 201)}


def test_a_replaced_secret_verifies_over_a_restart(tmp_path: Path) -> None:
    server = server_in(tmp_path, "file")
    with server:
        rotate_by_file(server)
        until(lambda: Signer(server, NEW).put() == 201, "the new secret is known")

    with server:
        statuses = [Signer(server, OLD).put(), Signer(server, NEW).put()]

    assert statuses == [201, 201]


def test_a_secret_file_that_cannot_be_read_keeps_the_last_good_secret_and_is_told_once(tmp_path: Path) -> None:
    with server_in(tmp_path, "file") as server:
        (tmp_path / "secret.txt").unlink()
        until(lambda: server.lines("cannot be read again"), "it is told")
        while_it_is_missing = Signer(server, OLD).put()
        rotate_by_file(server)
        until(lambda: Signer(server, NEW).put() == 201, "the new secret is known")

        told = server.lines("cannot be read again")

    assert while_it_is_missing == 201
    assert len(told) == 1
    assert "ERROR" in told[0]
    assert str(tmp_path / "secret.txt") in told[0]


def test_a_secret_file_that_is_refused_keeps_the_last_good_secret_and_is_not_shown(tmp_path: Path) -> None:
    with server_in(tmp_path, "file") as server:
        write(tmp_path / "secret.txt", "tooweak")
        until(lambda: server.lines("cannot be read again"), "it is told")
        status = Signer(server, OLD).put()

        assert status == 201
        assert "tooweak" not in server.output()


def test_a_reload_with_a_secret_file_that_cannot_be_read_is_refused_and_the_server_goes_on(tmp_path: Path) -> None:
    with server_in(tmp_path, "file") as server:
        workers = server.worker_pids()
        (tmp_path / "secret.txt").unlink()

        server.signal(signal.SIGHUP)
        until(lambda: server.lines("Reload refused"), "the reload is refused")

        assert Signer(server, OLD).put() == 201
        assert server.worker_pids() == workers


def test_without_reask_secret_enabled_only_sighup_reads_the_secret_again(tmp_path: Path) -> None:
    write(tmp_path / "secret.txt", OLD)
    with Server(tmp_path, Secret="", SecretFile="secret.txt", ReaskSecretInterval=1, constants=SWIFT) as server:
        new = Signer(server, NEW)
        rotate_by_file(server)
        with loads(new) as running:
            until(lambda: all(load.is_steady(403) for load in running), "the new secret is not read")

        server.signal(signal.SIGHUP)

        until(lambda: new.put() == 201, "the new secret is read")
