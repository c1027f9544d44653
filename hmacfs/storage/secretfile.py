"""The secret that is made at first start and kept in StateDir."""

import os
import secrets

from hmacfs.errors import ConfigError
from hmacfs.storage import private


def new_secret() -> str:
    """256 random bits in a form that fits every configuration file."""
    return secrets.token_hex(32)


def path_in(state_dir: str) -> str:
    return os.path.join(state_dir, "secret")


def load_or_make(state_dir: str) -> str:
    """The secret in ``StateDir/secret``, made there if it is missing; every process gets the same one.

    Raises:
        ConfigError: one sentence that says what is wrong and what to do.
    """
    return _read(state_dir, may_make=True)


def load(state_dir: str) -> str:
    """The secret in ``StateDir/secret``.

    Raises:
        ConfigError: one sentence that says what is wrong and what to do; also where there is none.
    """
    return _read(state_dir, may_make=False)


def _read(state_dir: str, *, may_make: bool) -> str:
    path = path_in(state_dir)
    try:
        if may_make:
            private.make_private_directory(state_dir)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            if not may_make:
                remedy = "Put it back, or set Secret; without StateDir/keyring a start makes a new one."
                raise ConfigError([f"{path} is missing. {remedy}"]) from None
            content = private.create_once(path, new_secret().encode() + b"\n")
        secret = content.decode().removesuffix("\n")
    except UnicodeDecodeError:
        secret = ""
    except OSError as error:
        named = os.fsdecode(error.filename or "")
        where = named if os.path.isabs(named) else path
        raise ConfigError(
            [f"StateDir: {where} cannot be used ({error.strerror}). Change its owner, or StateDir."]
        ) from error
    if len(secret) < 16:
        raise ConfigError([f"{path} does not hold a usable secret. Delete it to have a new one made, or set Secret."])
    return secret
