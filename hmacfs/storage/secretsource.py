"""Reading a secret from a file or from a command (SecretFile, SecretCommand). What was read is in no message."""

import os
import re
import select
import signal
import stat
import subprocess
import time
from collections.abc import Sequence

from hmacfs.errors import ConfigError

SECONDS = 5.0
"""For a command."""

MOST_BYTES = 4096
"""A secret is short: more is another file than was meant."""

_UNUSABLE = re.compile(r"[\x00-\x1f\x7f]")


def from_file(path: str) -> str:
    """The secret in a file: UTF-8, without the newline at its end.

    Raises:
        ConfigError: one sentence that says what is wrong and what to do.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # nobody may wait for a FIFO's other end
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ConfigError([f"SecretFile: {path} is not a regular file."])
            content = os.read(fd, MOST_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise ConfigError(
            [f"SecretFile: {path} cannot be read ({error.strerror}). Check its path and owner."]
        ) from None
    return _judged(content, f"SecretFile: {path}")


def from_command(command: Sequence[str]) -> str:
    """What a command prints, without the newline at its end. No shell is in between.

    Raises:
        ConfigError: it cannot be run, fails, takes longer than 5 seconds or prints what cannot be a secret. What it
            says on standard error is not shown: it may be anything.
    """
    name = f"SecretCommand: {command[0]}"
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own words
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a NUL in it"
        raise ConfigError([f"{name} cannot be run ({reason}). Give an argument list with a full path."]) from None
    try:
        content = _output(process, name)
    finally:
        _end(process)
    if process.returncode != 0:
        raise ConfigError([f"{name} failed with exit status {process.returncode}."])
    return _judged(content, name)


def _output(process: "subprocess.Popen[bytes]", name: str) -> bytes:
    """All that it prints until it has ended."""
    assert process.stdout is not None
    deadline = time.monotonic() + SECONDS
    content = b""
    while True:
        readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise ConfigError([f"{name} took longer than {SECONDS:.0f} s."])
        block = os.read(process.stdout.fileno(), MOST_BYTES + 1)
        content += block
        _refuse_much(content, name)
        if not block:
            break
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise ConfigError([f"{name} took longer than {SECONDS:.0f} s."]) from None
    return content


def _end(process: "subprocess.Popen[bytes]") -> None:
    """One that has not ended is killed, with whatever it started: it leads a session of its own."""
    assert process.stdout is not None
    process.stdout.close()
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _judged(content: bytes, name: str) -> str:
    _refuse_much(content, name)
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigError([f"{name} gives bytes that are not UTF-8 text."]) from None
    if not text:
        raise ConfigError([f"{name} gives nothing."])
    if _UNUSABLE.search(text):
        raise ConfigError([f"{name} gives more than one line, or control characters: a secret stands alone."])
    return text


def _refuse_much(content: bytes, name: str) -> None:
    if len(content) > MOST_BYTES:
        raise ConfigError([f"{name} gives more than {MOST_BYTES} bytes: that is no secret."])
