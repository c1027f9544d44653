"""The folders of ``StoreDir/.hmacfs/versions``: the versions of each slot, and the ledger beside them.

    versions/ab/ab12.../3        a second name of the file that was replaced as the third; the folder is named by slot
    versions/ab/ab12.../ledger   the path, the number given last, when the file was replaced lately, and when each
                                 version had been stored (ledgers of earlier servers lack that)

A version is the old file itself under another name, so what travels with a file travels with it. Everything blocks, and
runs in the disk pool.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hmacfs.core import paths, versions
from hmacfs.core.paths import SlotPath
from hmacfs.core.retention import Held
from hmacfs.core.versions import DAY, Ledger
from hmacfs.errors import BadPath, ConfigError
from hmacfs.storage import fsutil, private
from hmacfs.storage.base import Entity
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.slotlocks import slot_name
from hmacfs.storage.storedir import GROUP, PRIVATE, SLOT, folders_in

LEDGER = "ledger"
_NUMBER = re.compile(r"[1-9][0-9]{0,14}")
_MOST_NUMBER = 10**15 - 1
_LEDGER_BYTES = 2 * 1024 * 1024
"""Above what VersionsPerDay and MaxVersions can make of one."""
_MOST_NS = 2**63


_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, BadPath)
"""What reading JSON raises that is not what we wrote."""


def prepare(store_dir: str) -> None:
    """Make the folder. Raises ConfigError."""
    try:
        private.make_private_directory(os.path.join(store_dir, PRIVATE, "versions"))
    except OSError as error:
        raise ConfigError([f"StoreDir: versions cannot be kept: {error}"]) from error


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """One version as the sweep sees it.

    Attributes:
        slot: the folder of its path.
        path: None where the ledger that tells it was lost.
        expires_at: as in Metadata.
        file: the current file under the path, where it is known.
        ledger: of its path.
        stored_ns: when it had been stored.
    """

    slot: str
    path: SlotPath | None
    number: int
    entity: Entity
    expires_at: int = 0
    file: Held | None = None
    ledger: Ledger = field(default_factory=Ledger)
    stored_ns: int = 0


@dataclass(frozen=True, slots=True)
class Dropped:
    """A version that went. Attributes: size: bytes it had. freed: of these, 0 where its content has other names."""

    number: int
    size: int
    freed: int


class VersionFolders:
    """A slot is what ``slot_name`` says of a path. Methods raise OSError.

    Args:
        most: MaxVersions.
        clock: Unix seconds.
    """

    def __init__(self, storage: LocalStorage, store_dir: str, most: int, clock: Callable[[], float]) -> None:
        self._storage = storage
        self._inside = f"{PRIVATE}/versions"
        self.root = os.path.join(store_dir, PRIVATE, "versions")
        self.most = most
        self._clock = clock

    def at(self, slot: str) -> str:
        """The folder of a slot, which may be missing."""
        return os.path.join(self.root, _place_of(slot))

    def raw(self, slot: str, number: int) -> bytes:
        """Where a version lies, relative to the store."""
        return f"{self._inside}/{_place_of(slot)}/{number}".encode()

    def groups(self) -> list[str]:
        """For ``slots``."""
        return folders_in(self.root, GROUP)

    def slots(self, group: str) -> list[str]:
        """Those of which something is kept."""
        return [name for name in folders_in(os.path.join(self.root, group), SLOT) if name.startswith(group)]

    def numbers(self, slot: str) -> list[int]:
        """Of the versions that are there, ascending. What else lies there is passed over."""
        try:
            entries = os.scandir(self.at(slot))
        except (FileNotFoundError, NotADirectoryError):
            return []
        with entries:
            names = (each.name for each in entries if _NUMBER.fullmatch(each.name) and _is_file(each))
            return sorted(int(name) for name in names)

    def ledger(self, slot: str) -> tuple[SlotPath | None, Ledger]:
        """The path of a slot and its ledger. One that is missing or was damaged, by a power cut or by people, counts as
        empty: it guards against replays, not files."""
        try:
            values = json.loads(private.read_private(os.path.join(self.at(slot), LEDGER), _LEDGER_BYTES))
            path = paths.parse(str(values["path"]).encode())
            if slot_name(path) != slot:
                return None, Ledger()
            made = tuple(int(moment) for moment in values["made"])
            ledger = Ledger(int(values["highest"]), made, _stored(values.get("stored", {})))
            return (path, ledger) if 0 <= ledger.highest <= _MOST_NUMBER else (path, Ledger())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, *_DAMAGED):
            return None, Ledger()

    def write_ledger(self, slot: str, path: SlotPath, ledger: Ledger) -> None:
        """Make the folder where it is missing, and let its ledger say this from now on."""
        known = {"path": path.raw.decode(), "highest": ledger.highest, "made": ledger.made}
        values = known | {"stored": dict(ledger.stored)}
        folder = self.at(slot)
        private.make_private_directory(folder)
        private.write_private(os.path.join(folder, LEDGER), json.dumps(values).encode())

    def kept(self, slot: str) -> list[KeptVersion]:
        """What is there, the oldest first."""
        path, ledger = self.ledger(slot)
        file = None if path is None else self._storage.held_at(path)
        found, stored = [], dict(ledger.stored)
        for number in self.numbers(slot):
            place = os.path.join(self.at(slot), str(number))
            try:
                info = os.stat(place)
                entity = Entity(info.st_ino, info.st_size, info.st_mtime_ns)
                ends = self._storage.claimed_end(os.fsencode(place), entity)
            except FileNotFoundError:
                continue
            stored_ns = stored.get(number, entity.modified_ns)
            found.append(KeptVersion(slot, path, number, entity, ends, file, ledger, stored_ns))
        return found

    def leftover(self, slot: str, current: Entity | None) -> int | None:
        """The version that is the current file: linked away and not replaced then. It can only be the newest, because
        equal content makes no version; and a kept one is none whose content came back and shares its inode."""
        newest = max(self.numbers(slot), default=0)
        if not newest or current is None:
            return None
        try:
            info = os.stat(os.path.join(self.at(slot), str(newest)))
        except FileNotFoundError:
            return None  # pruned meanwhile
        is_current = info.st_ino == current.inode
        return newest if is_current and versions.may_be_unreplaced(self.ledger(slot)[1], newest) else None

    def prune(self, slot: str) -> list[Dropped]:
        """Remove those beyond MaxVersions."""
        numbers = self.numbers(slot)
        if len(numbers) <= self.most:
            return []
        return self.drop(slot, versions.surplus(numbers, self.most, self.ledger(slot)[1], self._clock()))

    def drop(self, slot: str, numbers: Sequence[int]) -> list[Dropped]:
        """Remove these. For who holds the path's lock."""
        if not numbers:
            return []
        with fsutil.opened_directory(self.at(slot)) as folder:
            return [self._dropped(folder, number) for number in numbers]

    def _dropped(self, folder: int, number: int) -> Dropped:
        name = b"%d" % number
        size = os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
        return Dropped(number, size, self._storage.drop_name(folder, name))

    def is_old(self, slot: str) -> bool:
        """Whether nothing in it counts for VersionsPerDay any more."""
        try:
            changed = os.stat(os.path.join(self.at(slot), LEDGER)).st_mtime
        except FileNotFoundError:
            return True
        return abs(self._clock() - changed) >= DAY

    def forget(self, slot: str) -> None:
        """Remove the ledger, and the folder if nothing else is in it."""
        folder = self.at(slot)
        try:
            for name in os.listdir(folder):
                if name.startswith(LEDGER):  # drafts of it too, which a crash left
                    private.remove_file(os.path.join(folder, name))
        except FileNotFoundError:
            return
        private.remove_empty(folder)


def _stored(values: dict[str, int]) -> tuple[tuple[int, int], ...]:
    found = ((int(number), int(moment)) for number, moment in values.items())
    return tuple((number, moment) for number, moment in found if 0 < moment < _MOST_NS)


def _is_file(entry: "os.DirEntry[str]") -> bool:
    return entry.is_file(follow_symlinks=False)


def _place_of(slot: str) -> str:
    return f"{slot[:2]}/{slot}"
