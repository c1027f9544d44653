"""Unfinished uploads beside the files of a store: begun, found, counted, and given up when their slot's file is there.

Everything blocks, and runs in the disk pool.
"""

import os
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from hmacfs.core import upload
from hmacfs.core.paths import SlotPath
from hmacfs.core.upload import State
from hmacfs.errors import RequestError, StorageFailed, TooManySessions, UploadExists
from hmacfs.storage import fsutil, private, standing
from hmacfs.storage.adopting import adopt_left
from hmacfs.storage.base import Standing, UploadHeader, os_errors_translated
from hmacfs.storage.journal import META, Journal
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.partial import LocalPartial
from hmacfs.storage.partialfolders import DATA, DRAFT, LOG, UNNAMED, PartialFolders, key_of
from hmacfs.storage.partialsweep import PartialSweep
from hmacfs.storage.slotlocks import slot_name
from hmacfs.storage.storedir import GROUP, folders_in
from hmacfs.storage.turns import Turns

T = TypeVar("T")

_ID = re.compile(r"[A-Za-z0-9_-]{24}[0-9a-f]{32}")
_SLOT_AT = 24
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalPartials:
    """The Partials port beside a LocalStorage on the same filesystem; ``partialfolders.prepare`` has made its folders.

    Args:
        most: MaxSessionsPerSlot.
        ttl: seconds, SessionTTL.
        clock: Unix seconds.

    Attributes:
        on_removed: called with key and ``started_at`` of an upload that was removed before its end, whoever removed it;
            from a thread of the disk pool. It must not wait and not raise.
        on_left: called, likewise, with the header of each upload that was removed before its end, drafts too, and with
            what the slot has left: other unfinished uploads, and its file. None: nobody looks for that.
    """

    def __init__(
        self, storage: LocalStorage, store_dir: str, *, most: int, ttl: float, clock: Callable[[], float]
    ) -> None:
        self.storage = storage
        self.folders = PartialFolders(store_dir)
        self._most = most
        self._ttl = ttl
        self._clock = clock
        self.turns = Turns()
        self.on_removed: Callable[[str, float], None] = _nobody
        self.on_left: Callable[[UploadHeader, Sequence[Standing]], None] | None = None
        storage.on_published = self.clear

    def create(
        self, header: UploadHeader, *, others: Callable[[], int], drop_idle: bool, is_draft: bool
    ) -> LocalPartial:
        with self.turns.of(slot_name(header.path)):
            return self._run(self._create, header, others, drop_idle, is_draft)

    def find(self, path: SlotPath, face: str, secret: str) -> LocalPartial | None:
        with self.turns.of(slot_name(path)):
            return self._run(self._found, slot_name(path), key_of(face, secret) + LOG, face)

    def resolve(self, upload_id: str) -> LocalPartial | None:
        if not _ID.fullmatch(upload_id):
            return None
        with self.turns.of(upload_id[_SLOT_AT:]):
            return self._run(self._living, upload_id[_SLOT_AT:], key_of("", upload_id) + LOG)

    def furthest(self, path: SlotPath, total: int, content_type: str) -> LocalPartial | None:
        with self.turns.of(slot_name(path)):
            return self._run(self._furthest, slot_name(path), total, content_type)

    def knows_token(self, token: str) -> bool:
        return self._run(self._knows_token, key_of("session", token))

    def count(self, path: SlotPath) -> int:
        with self.turns.of(slot_name(path)):
            return self._run(self._count, slot_name(path))

    def standing(self, path: SlotPath) -> Sequence[Standing]:
        with self.turns.of(slot_name(path)):
            return self._run(standing.unfinished, self, path)

    def new_id(self, path: SlotPath) -> str:
        return secrets.token_urlsafe(18) + slot_name(path)

    def sweep(self, *, removes: bool = True) -> Sequence[tuple[str, str, float]]:
        sweeping = PartialSweep(self, self._ttl, self._clock)
        removed: list[tuple[str, str, float]] = []
        for group in self._run(folders_in, self.folders.root, GROUP):
            removed += self._run(sweeping.group, group, removes)
        if removes:
            self._run(sweeping.tokens)
        return removed

    def clear(self, path: SlotPath, keep: str = "") -> None:
        """The file of the slot is published: its partials have no purpose any more. Blocks; never raises OSError.

        Args:
            keep: name of the one journal that stays.
        """
        slot = slot_name(path)
        try:
            for name in self.folders.names(slot, LOG):
                if name != keep and (partial := self.open_now(slot, name)) is not None:
                    partial.remove_now()
                    partial.close()
        except (OSError, StorageFailed):
            pass  # the file is there: what is left is swept after SessionTTL

    def removed_now(self, header: UploadHeader, *, is_draft: bool) -> None:
        """An upload has gone before its end. For jobs of the disk pool; raises nothing: it has gone whatever happens.

        Args:
            is_draft: what its token stands for may go on.
        """
        if not is_draft:
            self.on_removed(header.key, header.started_at)
        if self.on_left is not None:
            with suppress(OSError, RequestError):  # what nobody could look for expires
                self.on_left(header, standing.left(self, header.path))

    def open_now(self, slot: str, name: str) -> LocalPartial | None:
        """For jobs of the disk pool; None when there is none of this name, or it has ended, or cannot be read."""
        try:
            journal = self.folders.journal(slot, name)
        except (FileNotFoundError, IsADirectoryError):
            return None
        try:
            header, data_name = journal.header()
            if journal.state is not State.GONE:
                return LocalPartial(self, journal, header, slot, name, data_name)
        except StorageFailed:
            pass  # not one of ours, or damaged: as good as none, and swept one day
        except BaseException:
            os.close(journal.fd)
            raise
        os.close(journal.fd)
        return None

    def is_expired(self, partial: LocalPartial) -> bool:
        """Whether SessionTTL is over. For jobs of the disk pool."""
        return upload.is_expired(partial.look_now().changed_at, self._ttl, self._clock())

    def _run(self, job: Callable[..., T], *args: object) -> T:
        with os_errors_translated():
            return self.storage.disk.run(job, *args)

    def _create(self, header: UploadHeader, others: Callable[[], int], drop_idle: bool, is_draft: bool) -> LocalPartial:
        slot = slot_name(header.path)
        name = (UNNAMED + secrets.token_hex(20) if is_draft else key_of(header.face, header.secret)) + LOG
        adopt_left(self, slot)
        with self.folders.locked(slot):
            folder = self.folders.at(slot)
            private.make_private_directory(folder)
            self._remove_dead(slot, name)
            if os.path.exists(os.path.join(folder, name)):
                raise UploadExists
            # Counted under the lock under which bodies count partials, once they have announced themselves: of two
            # that come at the same moment at least one sees the other.
            self._make_room(slot, others(), drop_idle)
            partial = self._begin(header, slot, name, held=drop_idle or is_draft)
            if header.face == "session" and not is_draft:
                partial.know_token()
        return partial

    def _begin(self, header: UploadHeader, slot: str, name: str, *, held: bool) -> LocalPartial:
        """The two files; the journal gets its name last, when it is whole.

        Args:
            held: it is ours alone from the start. A draft that nobody holds is taken for what a killed process left,
                and an idle upload may make room for another one.
        """
        folder = self.folders.at(slot)
        data_name = secrets.token_hex(16) + DATA
        draft = os.path.join(folder, secrets.token_hex(16) + DRAFT)
        fd = -1
        try:
            self.storage.staging.create_at(os.path.join(folder, data_name))
            fd = os.open(draft, _CREATE, 0o600)
            journal = Journal(fd, self.folders.boot)
            journal.begin(header, data_name)
            if self.storage.syncs_files:
                fsutil.fsync(fd)
            if held:
                journal.try_lock(0, META)
            fsutil.rename(draft, os.path.join(folder, name))
            if self.storage.syncs_directories:
                for directory in (folder, os.path.dirname(folder), self.folders.root):
                    fsutil.sync_directory(directory)
        except BaseException:
            if fd >= 0:
                os.close(fd)
            for leftover in (draft, os.path.join(folder, name), os.path.join(folder, data_name)):
                private.remove_file(leftover)  # it would count for the slot until SessionTTL
            raise
        return LocalPartial(self, journal, header, slot, name, data_name)

    def _make_room(self, slot: str, others: int, drop_idle: bool) -> None:
        """One more partial may come. Raises TooManySessions."""
        if len(self.folders.names(slot, DATA)) + others < self._most:
            return
        idle = []
        for name in self.folders.names(slot, LOG):
            partial = self.open_now(slot, name)
            if partial is None:
                self._remove_dead(slot, name)
                continue
            is_dead_draft = partial.is_draft and partial.is_idle_now()
            if is_dead_draft or self.is_expired(partial):
                partial.remove_now(tidy=False)
            elif drop_idle and partial.is_idle_now():
                idle.append(partial)
                continue
            partial.close()
        excess = len(self.folders.names(slot, DATA)) + others + 1 - self._most
        for partial in sorted(idle, key=lambda each: each.look_now().extents.recorded):
            if excess == 1:  # where bodies on their way fill the slot, dropping one would help nobody
                partial.remove_now(tidy=False)
                excess = 0
            partial.close()
        if excess > 0:
            raise TooManySessions

    def _count(self, slot: str) -> int:
        """What has expired, or a killed plain PUT left, counts for nothing, whenever the next sweep comes."""
        if not os.path.exists(os.path.join(self.folders.root, slot[:2], "lock")):
            return 0  # who makes the first partial here takes the lock after this look, and counts us then
        with self.folders.locked(slot):
            return self._count_now(slot)

    def _count_now(self, slot: str) -> int:
        count = len(self.folders.names(slot, DATA))
        for name in self.folders.names(slot, LOG) if count else ():
            partial = self.open_now(slot, name)
            if partial is not None:
                is_over = self.is_expired(partial) or partial.is_left_now()
                count -= partial.look_now().state is State.OPEN and is_over
                partial.close()
        return count

    def _remove_dead(self, slot: str, name: str) -> None:
        """What is left of an upload that has ended, where its process was killed before it had removed everything, and
        what cannot be read: it would count for the slot, and keep its token from beginning anew, until SessionTTL. The
        slot is locked."""
        try:
            journal = self.folders.journal(slot, name)
        except FileNotFoundError:
            return
        try:
            header, data_name = journal.header()
            if journal.state is State.GONE:
                private.remove_file(os.path.join(self.folders.at(slot), data_name))
                private.remove_file(os.path.join(self.folders.at(slot), name))
                self.removed_now(header, is_draft=name.startswith(UNNAMED))
        except StorageFailed:  # damaged: as good as none, and nobody may be kept from beginning anew by it
            private.remove_file(os.path.join(self.folders.at(slot), name))
            self._remove_unnamed(slot)
        finally:
            os.close(journal.fd)

    def _remove_unnamed(self, slot: str) -> None:
        """Data that no journal names any more. The slot is locked, under which every data file gets its journal."""
        named = set()
        for name in self.folders.names(slot, LOG):
            if (partial := self.open_now(slot, name)) is not None:
                named.add(partial.data_name)
                partial.close()
        for name in set(self.folders.names(slot, DATA)) - named:
            private.remove_file(os.path.join(self.folders.at(slot), name))

    def _found(self, slot: str, name: str, face: str) -> LocalPartial | None:
        if face == "session":
            adopt_left(self, slot)
        return self._living(slot, name)

    def _living(self, slot: str, name: str) -> LocalPartial | None:
        partial = self.open_now(slot, name)
        if partial is None or not (self.is_expired(partial) or partial.went_back_now()):
            return partial
        if partial.take_over_now():
            partial.remove_now()
        partial.close()
        return None

    def _furthest(self, slot: str, total: int, content_type: str) -> LocalPartial | None:
        adopt_left(self, slot)
        best: LocalPartial | None = None
        for name in self.folders.names(slot, LOG):
            partial = self._living(slot, name)
            if partial is None:
                continue
            header = partial.header
            fits = header.face == "session" and (header.total, header.content_type) == (total, content_type)
            fits = fits and not partial.is_draft and partial.look_now().state is State.OPEN
            if fits and (best is None or partial.look_now().extents.prefix > best.look_now().extents.prefix):
                best, partial = partial, best
            if partial is not None:
                partial.close()
        return best

    def _knows_token(self, key: str) -> bool:
        try:
            journal = self.folders.journal_of_token(key)
        except FileNotFoundError:
            return False
        try:
            journal.header()  # one whose header is damaged is as good as none
            info = os.fstat(journal.fd)
            expired = upload.is_expired(info.st_mtime, self._ttl, self._clock())
            return info.st_nlink > 1 and journal.state is State.OPEN and not expired
        except StorageFailed:
            return False
        finally:
            os.close(journal.fd)


def _nobody(key: str, started_at: float) -> None:
    """Nobody wants to know."""
