"""Where work is done: one server reached one way, the store under it, and the files put there for GETs."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench import slots, transfers
from bench.load import Client, LoadFailed
from bench.outcome import Outcome
from bench.processes import Group
from bench.servers import Fleet, Server
from bench.transfers import Address

_FEW = 64  # files that are removed between runs on any filesystem


@dataclass(frozen=True)
class Scale:
    """How much work an item is. ``puts`` limits the files of one run, by size: the store must hold them all."""

    large: int = 1 << 30
    medium: int = 100 << 20
    accel: int = 1 << 20
    seconds: int = 3
    puts: tuple[tuple[int, int], ...] = ((4096, 60_000), (65536, 15_000))
    kept: int = 1000
    slow: int = 1000
    slow_seconds: int = 10
    idle: int = 10_000
    idle_seconds: int = 5


QUICK = Scale(
    large=32 << 20,
    medium=4 << 20,
    seconds=1,
    puts=((4096, 4000), (65536, 1000)),
    kept=50,
    slow=50,
    slow_seconds=2,
    idle=500,
    idle_seconds=1,
)


@dataclass
class Ground:
    """What all runs on one store share.

    Attributes:
        in_memory: the store is a tmpfs: small files are removed after each run, for space. On a disk they stay until
            the end, because ext4 makes every create dearer for a while after many deletes.
    """

    fleet: Fleet
    scale: Scale
    in_memory: bool
    kept: dict[tuple[str, int, int], list[str]] = field(default_factory=dict)
    _tags: int = 0

    def new_tag(self) -> str:
        """The beginning of paths that no other run uses; also on peers, whose stores outlive this benchmark."""
        self._tags += 1
        return f"b{os.urandom(4).hex()}-{self._tags:04d}"

    def remove(self, server: Server, tag: str, count: int) -> None:
        """Take away what a run has stored, where that does no harm and the store is known."""
        if server.store is None or not (self.in_memory or count <= _FEW):
            return
        for name in os.listdir(server.store):
            if name.startswith(tag):
                shutil.rmtree(os.path.join(server.store, name))

    def settle(self, *, is_large: bool) -> None:
        """Nobody's run should pay for what the one before has left.

        On a disk that is the page cache, to be written back. In memory it is pages given back to a hypervisor: the
        first one to touch them again pays up to five times the cost of the write, whoever that is.
        """
        if not self.in_memory:
            os.sync()
        elif is_large:
            self._touch_memory(self.scale.large)

    def _touch_memory(self, size: int) -> None:
        path = os.path.join(self.fleet.store, "touched")
        block = bytes(4 << 20)
        with open(path, "wb") as file:
            for _ in range(size // len(block)):
                file.write(block)
        os.unlink(path)

    def warm_up(self, server: Server) -> None:
        """Every worker has had requests before anything is measured."""
        self.files(server, 1024, 50)

    def files(self, server: Server, size: int, count: int) -> list[str]:
        """GET targets of files of that size, put there through the server itself and kept for all rounds."""
        key = (server.name, size, count)
        if key not in self.kept:
            paths = list(slots.paths(f"{self.new_tag()}-kept", count))
            puts = [server.signer.put(path, size) for path in paths]
            outcome: Outcome = Client(put_all, server.address, puts, size).result(300)
            if outcome.failed:
                raise LoadFailed(f"{outcome.failed} of {count} files could not be put on {server.name}")
            self.kept[key] = [server.signer.get(path) for path in paths]
        return self.kept[key]


@dataclass(frozen=True)
class Place:
    """One server, directly or through the nginx in front."""

    ground: Ground
    server: Server
    proxied: bool

    @property
    def address(self) -> Address:
        front = self.server.front
        return front if self.proxied and front is not None else self.server.address

    @property
    def groups(self) -> list[Group]:
        return [self.server.group, self.ground.fleet.front] if self.proxied else [self.server.group]

    @property
    def ping_target(self) -> str:
        return self.ground.files(self.server, 1, 1)[0]


def put_all(address: Address, targets: Sequence[str], size: int) -> Outcome:
    """One after another; for preparing, not for measuring."""
    if size > 65536:
        return transfers.uploads(address, targets, size)
    failed = 0
    for target in targets:
        with transfers.connect(address) as sock:
            head = transfers.request_head("PUT", target, address, size)
            failed += transfers.exchange(sock, head, b"0" * size).status not in (200, 201, 204)
    return Outcome(len(targets) - failed, 0, failed=failed)
