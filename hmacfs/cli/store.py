"""The store as a command works on it, while a server may run: in this very thread."""

from hmacfs.offload import InlinePool
from hmacfs.settings import Settings
from hmacfs.storage import storedir
from hmacfs.storage.local import LocalStorage


def opened(settings: Settings) -> LocalStorage:
    """Raises ConfigError for a StoreDir that cannot be used."""
    storedir.prepare(settings.store_dir)
    return LocalStorage(
        settings.store_dir,
        InlinePool(),
        durability=settings.durability,
        file_mode=settings.file_mode,
        dir_mode=settings.dir_mode,
    )
