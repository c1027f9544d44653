"""Runs a command under the hardening of a unit file on a machine without systemd.

``python -m tests.support.sandbox UNIT FOLDER COMMAND...`` becomes COMMAND, which can write beneath FOLDER (a state
directory) and nowhere else. The lines of the unit that can take something away from the program are carried out by the
means that systemd uses: mounts in a namespace of its own, prctl, and its own list of system calls as a seccomp filter.
Needs root; COMMAND keeps the user, without any capability.
"""

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.servers import program

_NEWNS = 0x00020000
_CAPBSET_READ, _CAPBSET_DROP, _NO_NEW_PRIVS, _MDWE = 23, 24, 38, 65
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_API = ("/proc", "/sys", "/dev")
"""What ProtectSystem=strict leaves alone."""


def directives(unit: Path, section: str = "Service") -> list[tuple[str, str]]:
    """Name and value of every line in one section of a unit, in their order."""
    found, current = [], ""
    for line in unit.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif current == section and line and not line.startswith(("#", ";")):
            name, equals, value = line.partition("=")
            assert equals, line
            found.append((name, value))
    return found


def values(unit: Path, name: str, section: str = "Service") -> list[str]:
    """Every value that one directive has."""
    return [value for key, value in directives(unit, section) if key == name]


def allowed_calls(filters: Sequence[str]) -> set[str]:
    """System calls that SystemCallFilter= lines leave: a first list that allows, and "~" for lists taken from it."""
    allowed: set[str] = set()
    for line in filters:
        calls = {call for word in line.removeprefix("~").split() for call in _expanded(word)}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def _expanded(word: str) -> Iterator[str]:
    if not word.startswith("@"):
        yield word
        return
    command = [program("systemd-analyze"), "--no-pager", "syscall-filter", word]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    for line in listed.splitlines()[1:]:
        if (call := line.strip()) and not call.startswith("#"):
            yield from _expanded(call)


def _checked(result: int, what: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), what)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=30)


def _protect_files(libc: ctypes.CDLL, folder: str, proc_options: str) -> None:
    _checked(libc.unshare(_NEWNS), "unshare")
    _mount("--make-rprivate", "/")
    _mount("--bind", folder, folder)
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    for point in sorted({line.split()[4] for line in lines}):
        if point != folder and not any(point == api or point.startswith(f"{api}/") for api in _API):
            subprocess.run(["mount", "-o", "remount,bind,ro", point], check=point == "/", timeout=30)
    _mount("-t", "proc", "-o", proc_options, "proc", "/proc")
    # PrivateTmp: a /tmp of its own might hide the code and the folder of a test, so it is told by the variable.
    os.environ["TMPDIR"] = os.path.join(folder, "tmp")
    os.makedirs(os.environ["TMPDIR"], exist_ok=True)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    number = 0
    while libc.prctl(_CAPBSET_READ, number, 0, 0, 0) >= 0:
        _checked(libc.prctl(_CAPBSET_DROP, number, 0, 0, 0), "a capability")
        number += 1


def _filter_calls(calls: set[str]) -> None:
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_ERRNO | errno.EPERM)))
    known = [number for call in calls if (number := seccomp.seccomp_syscall_resolve_name(call.encode())) >= 0]
    assert len(known) > 200
    for number in known:
        assert seccomp.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0) == 0
    assert seccomp.seccomp_load(context) == 0


def main(unit: Path, folder: str, command: Sequence[str]) -> None:
    given = dict(directives(unit))
    calls = allowed_calls(values(unit, "SystemCallFilter"))
    libc = ctypes.CDLL(None, use_errno=True)
    if given["ProtectSystem"] == "strict":
        subset = ",subset=pid" if given.get("ProcSubset") == "pid" else ""
        _protect_files(libc, folder, f"hidepid={given['ProtectProc']}{subset}")
    if given["CapabilityBoundingSet"] == "":
        _drop_capabilities(libc)
    if given["NoNewPrivileges"] == "yes":
        _checked(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "NoNewPrivileges")
    if given["MemoryDenyWriteExecute"] == "yes":
        _checked(libc.prctl(_MDWE, 1, 0, 0, 0), "MemoryDenyWriteExecute")
    os.umask(int(given["UMask"], 8))
    _filter_calls(calls)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
