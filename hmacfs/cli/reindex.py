"""hmacfs reindex: the catalogue of shared state, made right by what lies on the disk.

Files and rows come in the same order, so both are read once, side by side, with a batch of each in memory.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import click

from hmacfs.cli import store
from hmacfs.cli.common import config_errors_told, config_option, fail, settings_of, shared_state
from hmacfs.core import contenttype, paths, quota
from hmacfs.core.paths import SlotPath
from hmacfs.errors import BadPath, NotFound, StorageBusy, StorageFailed
from hmacfs.state.base import Catalog, FileRow
from hmacfs.storage import walk
from hmacfs.storage.base import Storage

BATCH = 500
"""Rows of one call to a tier."""


@click.command()
@config_option
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@config_errors_told
def reindex(config_path: str | None, dry_run: bool) -> None:
    """Make the catalogue agree with the files in StoreDir.

    Files that it does not know are recorded, rows without a file forgotten. The server may run meanwhile.
    """
    settings = settings_of(config_path)
    if not os.path.isdir(settings.store_dir):
        fail(f"StoreDir: {settings.store_dir} does not exist.")
    try:
        with shared_state(settings) as state:
            named = partial(quota.uploader_of, by_first_segment=settings.quota_by_first_segment)
            work = Reindexing(store.opened(settings), state, click.echo if dry_run else None, named)
            work.run(walk.slots(settings.store_dir))
            if not dry_run:
                state.forget_counts()  # of what uploaders have: they are made anew from the catalogue
    except (StorageBusy, StorageFailed) as error:
        fail(f"the store cannot be read: {error}.")
    click.echo(work.summary())


@dataclass
class Reindexing:
    """One run over a store.

    Attributes:
        would: told each step in place of doing it; None to do it.
        uploader_of: whose a file is, by its path and by what its row says.
        files, recorded, forgotten: how many.
    """

    storage: Storage
    catalog: Catalog
    would: Callable[[str], object] | None = None
    uploader_of: Callable[[SlotPath, str], str] = lambda _slot, named: named
    files: int = 0
    recorded: int = 0
    forgotten: int = 0
    _rows: list[FileRow] = field(default_factory=list)
    _gone: list[str] = field(default_factory=list)

    def run(self, slots: Iterator[SlotPath]) -> None:
        """Compare ``slots``, all of the store and ordered by their bytes, with all of the catalogue.

        Raises:
            StateUnavailable, StorageFailed, StorageBusy.
        """
        for slot, row in _side_by_side(slots, _all_rows(self.catalog)):
            if slot is not None:
                self._judge(slot, row)
            # A file that was stored while the walk was elsewhere has a row already, and is there.
            elif row is not None and self._found_at(row.path) is None:
                self._gone.append(row.path)
            if len(self._rows) >= BATCH or len(self._gone) >= BATCH:
                self._write()
        self._write()

    def summary(self) -> str:
        verb = "" if self.would is None else "to be "
        return (
            f"{self.files} files: {self.recorded} {verb}recorded; {self.forgotten} rows without a file {verb}forgotten."
        )

    def _judge(self, slot: SlotPath, row: FileRow | None) -> None:
        # Who sent it and how long it may stay: files of earlier versions do not know, rows may. A path may say who.
        found = self._found(slot, row.uploader if row else "")
        if found is None:
            return  # it went since the walk came by; who took it away tells the catalogue
        self.files += 1
        if row is None:
            self._rows.append(found)
            return
        found = replace(found, expires_at=found.expires_at or row.expires_at)
        if replace(found, digest=found.digest or row.digest, stored_us=row.stored_us) != row:
            # What lies on the disk is right, whatever the row says of when: a clock may have been wrong.
            self._rows.append(replace(found, stored_us=max(found.stored_us, row.stored_us)))

    def _found(self, slot: SlotPath, named: str = "") -> FileRow | None:
        """The row that a file on the disk should have; None where there is none. Args: named: its uploader, where the
        file does not know it."""
        try:
            stored = self.storage.open(slot, with_content=False)
        except NotFound:
            return None
        entity, metadata = stored.entity, stored.metadata
        stored.close()
        content_type = metadata.content_type or contenttype.by_extension(slot.name)
        return FileRow(
            slot.raw.decode(),
            entity.size,
            content_type,
            metadata.sha256,
            self.uploader_of(slot, metadata.uploader or named),
            entity.stored_us,
            metadata.expires_at,
        )

    def _found_at(self, path: str) -> FileRow | None:
        try:
            return self._found(paths.parse(path.encode()))
        except BadPath:
            return None

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        gone, self._gone = self._gone, []
        self.recorded += len(rows)
        self.forgotten += len(gone)
        if self.would is None:
            self.catalog.record_files(rows)
            self.catalog.forget_files(gone)
            # What was stored again between our look and our forgetting: its row went with the old one's.
            self.catalog.record_files([row for path in gone if (row := self._found_at(path))])
            return
        for row in rows:
            self.would(f"record {paths.shown(row.path.encode())}")
        for path in gone:
            self.would(f"forget {paths.shown(path.encode())}")


def _all_rows(catalog: Catalog) -> Iterator[FileRow]:
    after = ""
    while page := catalog.list_files(after, BATCH):
        yield from page
        after = page[-1].path


def _side_by_side(
    slots: Iterator[SlotPath], rows: Iterator[FileRow]
) -> Iterator[tuple[SlotPath | None, FileRow | None]]:
    """Slots and rows of one path together, and None for what one side lacks. Both come ordered by the path's bytes."""
    slot, row = next(slots, None), next(rows, None)
    while slot is not None or row is not None:
        place = row.path.encode() if row is not None else b""
        if row is None or (slot is not None and slot.raw < place):
            yield slot, None
            slot = next(slots, None)
        elif slot is None or place < slot.raw:
            yield None, row
            row = next(rows, None)
        else:
            yield slot, row
            slot, row = next(slots, None), next(rows, None)
