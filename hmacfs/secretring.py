"""Settings to the secrets that are in effect: which source each one comes from, and the ring a server starts with."""

import time
from collections.abc import Callable

from hmacfs import configfile
from hmacfs.core import rotation
from hmacfs.core.rotation import Ring, Secrets
from hmacfs.errors import ConfigError, StorageFailed, StorageFull
from hmacfs.settings import Settings, weakness
from hmacfs.storage import secretfile, secretsource
from hmacfs.storage.ringfile import RingFile


def read(settings: Settings) -> Secrets:
    """What the sources of these settings say now. A secret that comes from nowhere is made in StateDir.

    Raises:
        ConfigError: a source cannot be read, or what it says is refused.
    """
    secret = _secret(settings)
    return Secrets(secret, settings.jwt_secret, settings.delete_secret, settings.previous_secrets)


def reread(path: str | None = None) -> Secrets:
    """The same with the configuration file read again. Args: path: None for the one that HMACFS_CONFIG names."""
    return read(configfile.usable(configfile.load(path)))


def committed(settings: Settings, warn: Callable[[str], object], now: float | None = None) -> Ring:
    """The ring that a server starts with: what the sources say now, and what that replaced; kept for all processes.

    Args:
        warn: told when StateDir cannot keep it: then nothing is known of what was current before.
        now: Unix seconds.

    Raises:
        ConfigError: as ``read``.
    """
    fresh = read(settings)
    now = time.time() if now is None else now
    store = RingFile(settings.state_dir)
    try:
        with store.in_turn():
            ring = rotation.rotated(store.load(), fresh, now, settings.secret_grace)
            store.save(ring)
            return ring
    except (StorageFailed, StorageFull) as error:
        warn(f"StateDir cannot keep the secrets, so that a replaced one ends with a restart: {error.detail}")
        return rotation.rotated(None, fresh, now, settings.secret_grace)


def _secret(settings: Settings) -> str:
    if settings.secret_file:
        name, secret = "SecretFile", secretsource.from_file(settings.secret_file)
    elif settings.secret_command:
        name, secret = "SecretCommand", secretsource.from_command(settings.secret_command)
    else:
        return settings.secret or secretfile.load_or_make(settings.state_dir)
    if problem := weakness(name, secret, allow_weak=settings.allow_weak_secret):
        raise ConfigError([problem])
    return secret
