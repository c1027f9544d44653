"""Processes that a test started come to an end."""

import subprocess

from tests.support.polling import PATIENCE


def end(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal and wait until it has ended; what does not end in time is killed."""
    process.send_signal(number)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
