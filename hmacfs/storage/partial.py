"""One unfinished upload that is open in this process.

Which rule holds by which mechanism:

- Nobody writes a byte that is recorded: ``claim`` sees to that.
- What is published is never written again: the data file is opened for writing under the lock of a range only, and
  publishing holds the lock of all of it, so no such descriptor is left.
- What a client is told is on disk: ``settle`` syncs the data first, then the journal that says so.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from hmacfs.core import upload
from hmacfs.core.preconditions import ALWAYS, WriteConditions
from hmacfs.core.upload import Event, State
from hmacfs.errors import FileExists, Gone, PathConflict, PreconditionFailed, UploadGone
from hmacfs.storage import chains, fsutil, private
from hmacfs.storage.base import Entity, Metadata, PartialUpload, Snapshot, UploadHeader, os_errors_translated
from hmacfs.storage.claim import LocalClaim, claimed
from hmacfs.storage.journal import META, Journal
from hmacfs.storage.slotlocks import patiently

if TYPE_CHECKING:
    from hmacfs.storage.partials import LocalPartials

T = TypeVar("T")


class LocalPartial:
    """The PartialUpload port. Methods that end in ``_now`` block and are for jobs of the disk pool.

    Args:
        journal: open, and ours from now on.
        slot: name of the slot's folder.
        name: of the journal in it.
        data_name: of the data file beside it.
    """

    def __init__(
        self, home: "LocalPartials", journal: Journal, header: UploadHeader, slot: str, name: str, data_name: str
    ) -> None:
        self._home = home
        self.journal = journal
        self.header = header
        self.name = name
        self.data_name = data_name
        self._slot = slot
        self._came = 0
        self._folder = home.folders.at(slot)

    @property
    def is_draft(self) -> bool:
        """Whether it is a plain PUT of its own, not what its token stands for."""
        return self.name.startswith("unnamed-")

    # The port

    def look(self) -> Snapshot:
        return self.run(self.look_now)

    def settle(self) -> Snapshot:
        return self.run(self.settle_now)

    def claim(self, first: int, end: int) -> LocalClaim | None:
        return self.run(claimed, self, first, end)

    def read(self, offset: int, count: int, watch: Callable[[memoryview], None]) -> int:
        return self.run_beside(self._read, offset, count, watch)

    def take_over(self) -> bool:
        return self.run(self.take_over_now)

    def is_idle(self) -> bool:
        return self.run(self.is_idle_now)

    def wanted(self) -> tuple[str, ...]:
        return self.run(self.wanted_now)

    def want(self, words: Sequence[str]) -> None:
        self.run(self.want_now, words)

    def publish(self, metadata: Metadata, conditions: WriteConditions = ALWAYS) -> Entity:
        with os_errors_translated():
            return patiently(self._home.storage.disk, self._publish, metadata, conditions)

    def remove(self) -> None:
        self.run(self.remove_now)

    def replace(self, other: PartialUpload) -> None:
        assert isinstance(other, LocalPartial)  # of the same Partials
        self.run(self.replace_now, other)

    def close(self) -> None:
        fd, self.journal.fd = self.journal.fd, -1
        if fd >= 0:
            os.close(fd)  # and every lock goes with it

    def run(self, job: Callable[..., T], *args: object) -> T:
        """The result of a job of the disk pool; one at a time for all partials of the slot, so that a crowd at one
        upload cannot take all threads."""
        with os_errors_translated(), self._home.turns.of(self._slot):
            return self._home.storage.disk.run(job, *args)

    def run_beside(self, job: Callable[..., T], *args: object) -> T:
        """The same beside others of the slot: for bytes."""
        with os_errors_translated():
            return self._home.storage.disk.run(job, *args)

    # In the disk pool

    def look_now(self) -> Snapshot:
        changed = os.fstat(self.journal.fd).st_mtime
        return Snapshot(self.journal.state, self.journal.extents(), changed)

    def is_idle_now(self) -> bool:
        """Whether nobody writes; then it is ours until ``close``. Disturbs nobody."""
        return self.journal.try_lock(0, META)

    def is_left_now(self) -> bool:
        """Whether it is a draft that nobody holds: its process was killed."""
        return self.is_draft and not self.journal.is_held(0, META)

    def is_named_now(self) -> bool:
        """Whether the name under which it was opened still leads to it."""
        try:
            found = os.stat(os.path.join(self._folder, self.name), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self.journal.fd))

    def take_over_now(self) -> bool:
        if self.is_idle_now():
            return True
        with self.journal.guarded():
            self.journal.want(0, META, self.ticket())
        return False

    def ticket(self) -> int:
        """When this request came, among all of the upload. For use under the journal's guard."""
        if not self._came:
            self._came = self.journal.next_ticket()
        return self._came

    def remove_now(self, *, tidy: bool = True) -> None:
        """Args: tidy: remove the slot's folder with the last partial; not where the caller has it locked."""
        self.journal.set_state(State.GONE)
        self.journal.want(0, META)
        self._forget(tidy=tidy)
        self._home.removed_now(self.header, is_draft=self.is_draft)

    def went_back_now(self) -> bool:
        """Whether the offset may be smaller than what a client was told, which the draft does not allow: nothing is
        synced, and the machine was booted since."""
        if self._home.storage.syncs_files or self.header.face != "draft":
            return False
        journal = self.journal
        return any(record.durable < record.end and not journal.is_believed(record) for record in journal.records())

    def know_token(self) -> None:
        """Let the session be known by its token in any slot. A leftover of an earlier one gives way."""
        place = self._home.folders.token_path(self.name)
        fsutil.replace_link(os.path.join(self._folder, self.name), place)

    def open_data(self, flags: int) -> int:
        try:
            return os.open(os.path.join(self._folder, self.data_name), flags | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UploadGone from None

    def settle_now(self) -> Snapshot:
        if not self._home.storage.syncs_files or self.journal.state is not State.OPEN:
            return self.look_now()
        with self.journal.guarded():
            records = self.journal.records()
            # Of these and nothing newer: somebody may be writing, and what comes after this look is not synced.
            extents = self.journal.extents_of(records)
            if not all(self.journal.is_settled(record) for record in records):
                self._sync_data()
                self.journal.make_durable(records)
                fsutil.fsync(self.journal.fd)
            self.journal.tidy()
        return replace(self.look_now(), extents=extents)

    def _sync_data(self) -> None:
        fd = self.open_data(os.O_RDONLY)
        try:
            fsutil.sync(fd)
        except fsutil.SyncFailed:
            self.remove_now()  # what was lost cannot be told from what was not
            raise
        finally:
            os.close(fd)

    def wanted_now(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.header.wanted, *self.journal.wanted())))

    def want_now(self, words: Sequence[str]) -> None:
        with self.journal.guarded():
            if not set(words) <= set(self.wanted_now()):
                self.journal.add_wanted(words)

    def _read(self, offset: int, count: int, watch: Callable[[memoryview], None]) -> int:
        fd = self.open_data(os.O_RDONLY)
        try:
            block = os.pread(fd, count, offset)
        finally:
            os.close(fd)
        watch(memoryview(block))
        return len(block)

    def _publish(self, metadata: Metadata, conditions: WriteConditions) -> Entity:
        """Publish under the lock of everything: nobody has the data open for writing, and nobody will."""
        state = self.journal.state
        upload.move(state, Event.PUBLISH)
        if state is State.PUBLISHED:  # another request was faster: its file is this one
            published = self._home.storage.files.entity_at(self.header.path)
            if published is None:
                raise UploadGone
            return published
        if self.header.face != "session":
            # A power cut behind the link must find the upload whole, or it could be neither continued nor completed.
            # A session is told as published by the file itself.
            self.settle_now()
        fd = self.open_data(os.O_RDONLY)
        try:
            entity = self._link(fd, metadata, conditions)
        except (FileExists, Gone, PathConflict, PreconditionFailed, fsutil.SyncFailed):
            self.remove_now()
            raise
        finally:
            os.close(fd)
        try:
            self.journal.set_state(State.PUBLISHED)
            if self._home.storage.syncs_files and self.header.face != "session":
                fsutil.fsync(self.journal.fd)
            self._forget(keep_journal=self.header.face != "session")
            self._home.clear(self.header.path, keep=self.name)
        except OSError:
            pass  # the file is there and synced, which nothing may undo now
        return entity

    def _link(self, fd: int, metadata: Metadata, conditions: WriteConditions) -> Entity:
        storage = self._home.storage
        try:
            folder = os.open(self._folder, fsutil.DIRECTORY)
        except FileNotFoundError:
            raise UploadGone from None

        def link(parent: int, target: bytes) -> None:
            try:
                fsutil.link_name(folder, self.data_name.encode(), parent, target)
            except FileNotFoundError:
                # Either end may be missing: our data, because a faster upload of the slot has removed its partials, or
                # the folder of the path, which the caller makes again.
                if os.fstat(fd).st_nlink:
                    raise
                raise UploadGone from None

        try:
            return storage.publish_open(self.header.path, fd, metadata, link, conditions)
        except (FileExists, Gone) as error:
            # A crash between the link and the note in the journal: the file there is this very one.
            entity = storage.files.entity_at(self.header.path)
            if entity is None or entity.inode != os.fstat(fd).st_ino:
                raise
            self._refuse_revived(entity)
            if isinstance(error, Gone):  # its own time is over
                raise
            storage.folders.sync_name(self.header.path)
            return entity
        finally:
            os.close(folder)

    def _refuse_revived(self, entity: Entity) -> None:
        """The crash may have come before it was seen that the path is buried."""
        storage, path = self._home.storage, self.header.path
        chain = storage.folders.chain_to(path)
        try:
            storage.refuse_revived(path, entity, chain)
        finally:
            chains.close_chain(chain)

    def replace_now(self, other: "LocalPartial") -> None:
        self.want_now(other.wanted_now())
        with self._home.folders.locked(self._slot):
            # The name changes hands before the old one is over: a crash leaves the token the one or the other.
            try:
                fsutil.rename(os.path.join(self._folder, self.name), os.path.join(self._folder, other.name))
            except FileNotFoundError:  # the slot's file was published, and took this one along
                raise UploadGone from None
            other.journal.set_state(State.GONE)
            self.name = other.name
            self.know_token()
            private.remove_file(os.path.join(self._folder, other.data_name))
            if self._home.storage.syncs_directories:
                fsutil.sync_directory(self._folder)

    def _forget(self, *, keep_journal: bool = False, tidy: bool = True) -> None:
        private.remove_file(os.path.join(self._folder, self.data_name))
        if not tidy:
            self._forget_names(keep_journal)
            return
        with self._home.folders.locked(self._slot):
            self._forget_names(keep_journal)
            private.remove_empty(self._folder)

    def _forget_names(self, keep_journal: bool) -> None:
        """The names that are still this journal's: one that expired or was replaced may have left them to another."""
        if keep_journal:
            return
        self._unlink_ours(os.path.join(self._folder, self.name))
        if self.header.face == "session" and not self.is_draft:
            self._unlink_ours(self._home.folders.token_path(self.name))

    def _unlink_ours(self, path: str) -> None:
        try:
            if os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(self.journal.fd)):
                os.unlink(path)
        except FileNotFoundError:
            pass
