"""A simulated power cut under uploads in pieces: what their clients had been told, and what a server finds afterwards.

The server behind the cut believes in another boot, as it would after a real one: of what the journals say it must take
what was durable and nothing more.
"""

import random
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from tests.live.faces import FACES, Upload
from tests.support import crowd
from tests.support.http import Answer, Connection, get
from tests.support.polling import until
from tests.support.powercut import MEBIBYTES, frozen
from tests.support.running import make_ext4, mounted
from tests.support.server import Server
from tests.support.slot import content

TOTALS = (1, 5000, 65_536, 200_000, 700_000)


@dataclass
class Told:
    """The last word that a client was told about its upload: ``offset`` bytes are there."""

    upload: Upload
    offset: int

    @property
    def is_complete(self) -> bool:
        return self.offset == self.upload.total


@dataclass
class Outcome:
    """What was found after the cut.

    Attributes:
        told: uploads that were told an offset before.
        unfinished: those of them that were not complete.
        lowered: path, what was told, and what was found where it is less.
        broken: paths that are not whole, or not right, after the rest was sent.
    """

    told: int
    unfinished: int
    lowered: list[tuple[str, int, int]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def cut_power_while_resuming(
    folder: Path, after: int, *, clients: int = 6, uploads: int = 1, seed: int = 0, **keys: Any
) -> Outcome:
    """Upload in pieces from several clients, cut the power after so many words, and go on where each one stood.

    Args:
        folder: an empty one.
        clients: how many upload at once. A single one stops with the last word, so that nothing but the server's own
            care for it can have saved it.
        uploads: of so many at least something is told before.
        keys: of the server's configuration.
    """
    image, copy = folder / "disk.img", folder / "copy.img"
    make_ext4(image, MEBIBYTES)
    (folder / "server").mkdir()
    words: list[Told] = []
    with mounted(folder / "disk", "-o", "loop", str(image)) as disk:
        keys = {"StoreDir": str(disk / "store"), "MinFreeSpace": 0, "NumCores": 2, **keys}
        with (
            Server(folder / "server", **keys) as server,
            crowd.running(partial(_upload, server, words, seed), clients, words, after),
        ):
            until(lambda: len(words) >= after, f"{after} offsets are told", 60)
            until(lambda: len({word.upload.path for word in list(words)}) >= uploads, f"of {uploads} uploads", 60)
            with frozen(server):
                before = {word.upload.path: word for word in list(words)}
                shutil.copyfile(image, copy)
    with mounted(folder / "survivor", "-o", "loop", str(copy)) as survivor:
        (folder / "again").mkdir()
        keys |= {"StoreDir": str(survivor / "store")}
        with Server(folder / "again", wrapper=_after_another_boot(folder), **keys) as server:
            return _continued(server, before)


def _after_another_boot(folder: Path) -> tuple[str, ...]:
    """A wrapper under which a server reads another boot id than this machine's."""
    boot_id = folder / "boot_id"
    boot_id.write_text(f"{uuid.uuid4()}\n")
    mount = f"mount --bind {boot_id} /proc/sys/kernel/random/boot_id"
    return "unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"


def _upload(server: Server, words: list[Told], seed: int, number: int, is_over: Callable[[], bool]) -> None:
    chance = random.Random(f"{seed} {number}")
    for turn in count():
        if is_over():
            return
        total = chance.choice(TOTALS)
        upload = Upload(chance.choice(FACES), f"client-{number}/{turn}.bin", content(total))
        _Client(server, upload, words, is_over, chance).upload()


@dataclass
class _Client:
    """Brings one file in pieces, some of which break off, and notes every offset that it is told."""

    server: Server
    file: Upload
    words: list[Told]
    is_over: Callable[[], bool]
    chance: random.Random

    def upload(self) -> None:
        total, upload = self.file.total, self.file
        offset = self._hear(upload.begin(self.server, self.chance.randrange(total)))
        while offset < total and not self.is_over():
            end = self.chance.randint(offset + 1, total)
            if self.chance.random() < 0.3:
                self._break_off(offset, end)
                offset = self._hear(upload.ask(self.server))
            else:
                offset = self._hear(upload.send(self.server, offset, end))

    def _hear(self, answer: Answer) -> int:
        """The offset that ``answer`` tells. A piece that broke off may come after the question that followed it, so a
        client may be taken over by itself; then it asks again."""
        if answer.code == "taken-over":
            return self._hear(self.file.ask(self.server))
        assert answer.status in (200, 201, 202, 204, 409), (answer.status, answer.code)
        self.words.append(Told(self.file, int(answer["Upload-Offset"])))
        return self.words[-1].offset

    def _break_off(self, first: int, end: int) -> None:
        """A piece whose connection ends before its last byte."""
        cut = self.chance.randrange(first, end)
        with Connection(self.server.address) as connection:
            connection.send(self.file.head(self.server, first, end) + self.file.content[first:cut])


def _continued(server: Server, before: dict[str, Told]) -> Outcome:
    """Every client asks, goes on from where it is told, and fetches the file."""
    outcome = Outcome(len(before), sum(not word.is_complete for word in before.values()))
    for path, word in before.items():
        answer = word.upload.ask(server)
        found = int(answer.get("Upload-Offset") or 0)
        if found < word.offset:
            outcome.lowered.append((path, word.offset, found))
            continue
        if get(server, path).status != 200:
            word.upload.send(server, found, word.upload.total)
        if get(server, path).body != word.upload.content:
            outcome.broken.append(path)
    return outcome
