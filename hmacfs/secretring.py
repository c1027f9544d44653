"""Settings to the secrets that are in effect: which source each one comes from, and the ring a server starts with."""

import os
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
    """What the sources of these settings say now. A secret that comes from nowhere is made in StateDir, but only where
    no server has had one: a ring in StateDir says that it was lost.

    Raises:
        ConfigError: a source cannot be read, or what it says is refused.
    """
    return _secrets(settings, _secret(settings, may_make=_kept(settings) is None))


def reread(settings: Settings, path: str | None = None) -> Secrets:
    """The same with the configuration file read again. Nothing is made: a file that is empty for a moment, or a lost
    StateDir, must not replace the secret of a running server.

    Args:
        settings: those that the server runs with.
        path: of the configuration file; None for the one that HMACFS_CONFIG names.

    Raises:
        ConfigError: as ``read``; also where the file says nothing, names another StateDir, or has lost its secret.
    """
    loaded = configfile.load(path)
    found = configfile.usable(loaded)
    if not loaded.sources and found != settings:
        raise ConfigError([f"{loaded.path} says nothing."])
    if found.state_dir != settings.state_dir:
        raise ConfigError([f"{loaded.path} names another StateDir, which only a reload or a restart can change."])
    if _has_source(settings) and not _has_source(found):
        raise ConfigError([f"{loaded.path} has no Secret, SecretFile or SecretCommand any more."])
    return _secrets(found, _secret(found, may_make=False))


def committed(
    settings: Settings,
    warn: Callable[[str], object],
    now: float | None = None,
    *,
    known: Ring | None = None,
    tell: Callable[[str], object] | None = None,
) -> Ring:
    """The ring that a server starts with: what the sources say now, and what that replaced; kept for all processes.

    Args:
        warn: told when StateDir cannot keep it: then nothing is known of what was current before. Also told when what
            was kept is damaged, and when the made secret is lost and the one in the ring stays.
        now: Unix seconds.
        known: the ring that the process has; None at its start.
        tell: told what was replaced, in sentences without any value.

    Raises:
        ConfigError: as ``read``. A running server makes no secret.
    """
    fresh = _fresh(settings, warn, known)
    now = time.time() if now is None else now
    store = RingFile(settings.state_dir)
    try:
        with store.in_turn():
            before = store.load()
            if before is None and known is not None:
                warn("StateDir/keyring is missing or damaged: what was replaced is taken from memory")
                before = known
            ring = rotation.rotated(before, fresh, now, settings.secret_grace)
            store.save(ring)
    except (StorageFailed, StorageFull) as error:
        warn(f"StateDir cannot keep the secrets, so that a replaced one ends with a restart: {error.detail}")
        before = known
        ring = rotation.rotated(before, fresh, now, settings.secret_grace)
    if before is not None and tell is not None:
        for sentence in rotation.told(before, fresh, settings.secret_grace):
            tell(sentence)
    return ring


def _fresh(settings: Settings, warn: Callable[[str], object], known: Ring | None) -> Secrets:
    """What the sources say. Where the made secret is lost a start goes on with the one in the ring; a reload is
    refused."""
    kept = _kept(settings)
    try:
        return _secrets(settings, _secret(settings, may_make=known is None and kept is None))
    except ConfigError as error:
        if known is not None or kept is None or _has_source(settings) or _is_there(settings):
            raise
        warn(f"The last good secret, in StateDir/keyring, stays: {error.problems[0]}")
        return _secrets(settings, kept.current.secret)


def _kept(settings: Settings) -> Ring | None:
    try:
        return RingFile(settings.state_dir).load()
    except (StorageFailed, StorageFull):
        return None  # told where it is to be written


def _has_source(settings: Settings) -> bool:
    """Whether the secret comes from elsewhere than StateDir."""
    return bool(settings.secret or settings.secret_file or settings.secret_command)


def _is_there(settings: Settings) -> bool:
    return os.path.lexists(secretfile.path_in(settings.state_dir))


def _secrets(settings: Settings, secret: str) -> Secrets:
    return Secrets(secret, settings.jwt_secret, settings.delete_secret, settings.previous_secrets)


def _secret(settings: Settings, *, may_make: bool) -> str:
    if settings.secret_file:
        name, secret = "SecretFile", secretsource.from_file(settings.secret_file)
    elif settings.secret_command:
        name, secret = "SecretCommand", secretsource.from_command(settings.secret_command)
    elif settings.secret:
        return settings.secret
    else:
        return (secretfile.load_or_make if may_make else secretfile.load)(settings.state_dir)
    if problem := weakness(name, secret, allow_weak=settings.allow_weak_secret):
        raise ConfigError([problem])
    return secret
