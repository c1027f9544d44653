"""The folders of ``StoreDir/.hmacfs/partials``, and the names in them: a journal and a data file for each upload.

    partials/ab/ab12.../KEY.log       the journal; the folder is named after the SHA-256 of the slot's path
    partials/ab/ab12.../RANDOM.part   the bytes, named by the journal
    partials/tokens/KEY               a second name of a session's journal, by which a token is known in any slot

KEY is a hash of the session token or upload id, so that no listing shows what could continue an upload. Everything
blocks, and runs in the disk pool.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

from hmacfs.errors import ConfigError
from hmacfs.storage import fsutil, private
from hmacfs.storage.boottag import boot_tag
from hmacfs.storage.journal import Journal
from hmacfs.storage.storedir import PRIVATE

LOG, DATA, DRAFT = ".log", ".part", ".new"
UNNAMED = "unnamed-"
"""How the journal of a plain PUT begins that is not (yet) what its token stands for."""

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def key_of(face: str, secret: str) -> str:
    """The file name for a token or an upload id. Tokens are chosen by clients: the two never meet."""
    kind = "token" if face == "session" else "id"
    return sha256(f"{kind}:{secret}".encode()).hexdigest()[:40]


def prepare(store_dir: str) -> None:
    """Make the folders. Raises ConfigError."""
    try:
        private.make_private_directory(os.path.join(store_dir, PRIVATE, "partials"))
        private.make_private_directory(os.path.join(store_dir, PRIVATE, "partials", "tokens"))
        for name in ("partials", os.path.join("partials", "tokens")):
            info = os.lstat(os.path.join(store_dir, PRIVATE, name))
            if not stat.S_ISDIR(info.st_mode) or info.st_dev != os.stat(store_dir).st_dev:
                raise ConfigError(
                    [
                        f"StoreDir: {os.path.join(store_dir, PRIVATE, name)} is a link, or lies on another filesystem "
                        "than the store, so uploads could not be published in one step. Remove it."
                    ]
                )
        boot_tag()
    except OSError as error:
        raise ConfigError([f"StoreDir: unfinished uploads cannot be kept: {error}"]) from error


class PartialFolders:
    """A slot is what ``slot_name`` says of a path. Methods raise OSError.

    Attributes:
        boot: of this machine, as journals note it.
    """

    def __init__(self, store_dir: str) -> None:
        self.root = os.path.join(store_dir, PRIVATE, "partials")
        self.tokens = os.path.join(self.root, "tokens")
        self.boot = boot_tag()

    def at(self, slot: str) -> str:
        """The folder of a slot, which may be missing."""
        return os.path.join(self.root, slot[:2], slot)

    def token_path(self, name: str) -> str:
        """The second name of the journal ``name``."""
        return os.path.join(self.tokens, name.removesuffix(LOG))

    @contextmanager
    def locked(self, slot: str) -> Iterator[None]:
        """A ``with`` block in which no partial of the slot comes or goes by its name."""
        group = os.path.join(self.root, slot[:2])
        private.make_private_directory(group)
        fd = os.open(os.path.join(group, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fsutil.patiently(lambda: fsutil.try_flock(fd))
            yield
        finally:
            os.close(fd)

    def names(self, slot: str, suffix: str) -> list[str]:
        """Args: suffix: of the sort that is wanted; empty for all."""
        try:
            return [name for name in os.listdir(self.at(slot)) if name.endswith(suffix)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def journal(self, slot: str, name: str) -> Journal:
        """Opened by its name. Raises FileNotFoundError."""
        return Journal(os.open(os.path.join(self.at(slot), name), _OPEN), self.boot)

    def journal_of_token(self, key: str) -> Journal:
        """The same by the second name of a session's. Raises FileNotFoundError."""
        return Journal(os.open(os.path.join(self.tokens, key), _OPEN), self.boot)
