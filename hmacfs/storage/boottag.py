"""Which boot of the machine this is: a number that tells what a power cut may have taken."""

import os
import re
from hashlib import sha256
from uuid import UUID

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_GIVEN_BOOT_ID = "BOOT_ID_FOR_HMACFS"
"""A variable of systemd's units and no key of the configuration: a value that somebody wrote down would be wrong after
the next boot."""
_PLAIN_ID = re.compile("[0-9a-f]{32}")


def boot_tag() -> int:
    """A number that every boot of this machine has anew, the same in all processes.

    Where /proc does not show the boot's id (systemd's ProcSubset=pid), BOOT_ID_FOR_HMACFS tells it, which a unit fills
    in with ``%b``. There is no third way: clocks are set, and a number that outlived a boot would call bytes recorded
    that a power cut took.

    Raises:
        OSError: neither tells it.
    """
    try:
        with open(_BOOT_ID, "rb") as file:
            told = file.read()
    except OSError as error:
        told = _given_boot_id()
        if not told:
            why = f"{error.strerror}, and {_GIVEN_BOOT_ID} is not set to systemd's %b"
            raise OSError(error.errno, why, _BOOT_ID) from error
    return int.from_bytes(sha256(told).digest()[:8], "little") | 1


def _given_boot_id() -> bytes:
    """As the kernel writes it, so that whoever reads it there has the same tag; empty where it is none."""
    given = os.environ.get(_GIVEN_BOOT_ID, "")
    return f"{UUID(given)}\n".encode() if _PLAIN_ID.fullmatch(given) else b""
