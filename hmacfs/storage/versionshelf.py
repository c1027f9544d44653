"""Old versions as a sweep sees them: in batches, and removed if they are still those."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from hmacfs.core.paths import SlotPath
from hmacfs.core.retention import Batch, Held, History
from hmacfs.storage.base import Entity
from hmacfs.storage.shelf import BATCH
from hmacfs.storage.slotlocks import slot_name
from hmacfs.storage.storedir import PRIVATE
from hmacfs.storage.versionfolders import KeptVersion
from hmacfs.storage.versions import LocalVersions


class VersionShelf:
    """A Shelf over LocalVersions. A version goes by the rules of files, its age being that of the file that it was;
    with the file that has taken its place; and where there are too many of its path."""

    def __init__(self, versions: LocalVersions) -> None:
        self._versions = versions

    def batches(self) -> Iterator[Batch]:
        """Every version that is there all the time; those of a path are in one batch, however many they are."""
        batch, most = Batch(), self._versions.most
        for _, found in groupby(self._versions.each(), key=lambda version: version.slot):
            batch.files.extend(_held(version, most) for version in found)
            if len(batch.files) >= BATCH:
                yield batch
                batch = Batch()
        if batch.files:
            yield batch

    def remove(self, files: Sequence[Held]) -> list[Held]:
        """Remove those that are still what was judged; which those were."""
        return [held for held in files if self._versions.remove(_kept(held)) is not None]

    def tidy(self, files: Sequence[Held]) -> None:
        """Nothing to do: a version that a power cut brings back goes with the next sweep."""

    def remove_empty(self, folders: Sequence[bytes]) -> list[bytes]:  # noqa: ARG002 - none are ever found
        """Their folders go with the ledger, when nothing in it counts any more (LocalVersions.sweep)."""
        return []


def _held(version: KeptVersion, most: int | None) -> Held:
    entity, file = version.entity, version.file
    path = version.path or _nameless(version.slot)
    history = History(version.ledger, most, is_over=version.path is not None and file is None)
    return Held(
        path,
        entity.inode,
        entity.size,
        entity.modified_ns,
        version.expires_at,
        version.number,
        file,
        history,
        version.stored_ns,
    )


def _kept(held: Held) -> KeptVersion:
    entity = Entity(held.inode, held.size, held.modified_ns)
    is_nameless = held.path.segments[0] == PRIVATE.encode()
    slot = held.path.name if is_nameless else slot_name(held.path)
    return KeptVersion(slot, held.path, held.version, entity, held.expires_at, held.file)


def _nameless(slot: str) -> SlotPath:
    """In place of the path that a lost ledger knew: where the version lies, which is no path of a slot."""
    segments = (PRIVATE.encode(), b"versions", slot[:2].encode(), slot.encode())
    return SlotPath(b"/".join(segments), segments)
