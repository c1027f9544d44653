"""The ring of secrets on disk: private, whole, and seen by every process."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hmacfs.core.rotation import Kind, Replaced, Ring, Secrets
from hmacfs.errors import StorageFailed
from hmacfs.storage import fsutil
from hmacfs.storage.ringfile import RingFile

RING = Ring(
    Secrets("the secret ö", "the key", "the word", ("older", "oldest")),
    (Replaced(Kind.SECRET, "gone", 1700000000), Replaced(Kind.JWT, "gone too", 5)),
    asked_at=1699999999,
    trouble="SecretFile: cannot be read.",
)


def saved(store: RingFile, ring: Ring) -> None:
    with store.in_turn():
        store.save(ring)


def test_what_was_saved_is_loaded_by_another_process(tmp_path: Path) -> None:
    saved(RingFile(str(tmp_path / "state")), RING)

    assert RingFile(str(tmp_path / "state")).load() == RING


def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        saved(RingFile(str(tmp_path / "state")), RING)
    finally:
        os.umask(umask)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert modes == {"keyring": 0o600, "keyring.lock": 0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_without_a_file_there_is_no_ring(tmp_path: Path) -> None:
    store = RingFile(str(tmp_path / "state"))

    assert store.load() is None
    assert not store.has_changed()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"\xff",
        b'{"current": {}}',
        b"[" * 200000,
        b'{"current": {"secret": "", "jwt": "", "delete": ""}, "previous": [], "replaced": [], "asked_at": 0, '
        b'"trouble": ""}',
        b'{"current": {"secret": "s", "jwt": "", "delete": ""}, "previous": [1], "replaced": [], "asked_at": 0, '
        b'"trouble": ""}',
        b'{"current": {"secret": "s", "jwt": "", "delete": ""}, "previous": [], "replaced": [{"kind": "x", '
        b'"value": "v", "until": 1}], "asked_at": 0, "trouble": ""}',
    ],
)
def test_a_damaged_file_is_as_good_as_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "keyring").write_bytes(content)

    assert RingFile(str(tmp_path)).load() is None


def test_the_others_see_that_a_ring_was_saved_and_we_do_not_look_at_our_own(tmp_path: Path) -> None:
    ours, theirs = RingFile(str(tmp_path)), RingFile(str(tmp_path))

    saved(ours, RING)
    seen = [theirs.has_changed(), ours.has_changed()]
    theirs.load()
    seen += [theirs.has_changed()]
    saved(theirs, RING)
    seen += [theirs.has_changed(), ours.has_changed()]

    assert seen == [True, False, False, False, True]


def test_one_process_is_alone_at_a_time(tmp_path: Path) -> None:
    first, second = RingFile(str(tmp_path)), RingFile(str(tmp_path))

    with first.alone() as ours, second.alone() as theirs:
        assert (ours, theirs) == (True, False)
    with second.alone() as theirs:
        assert theirs


def test_a_crash_before_the_rename_leaves_the_old_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RingFile(str(tmp_path))
    saved(store, RING)

    def fail(_source: str, _target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fsutil.os, "rename", fail)
    with pytest.raises(Exception, match="ENOSPC"):
        saved(store, Ring(Secrets("another")))

    assert RingFile(str(tmp_path)).load() == RING
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keyring", "keyring.lock"]


@pytest.mark.parametrize("call", [lambda s: s.load(), lambda s: s.save(RING), lambda s: s.has_changed()])
def test_what_the_system_refuses_comes_as_our_error(call: Callable[[RingFile], object], tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")

    with pytest.raises(StorageFailed):
        call(RingFile(str(tmp_path / "state")))


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("{}")
    (tmp_path / "keyring").symlink_to("elsewhere")

    with pytest.raises(StorageFailed):
        RingFile(str(tmp_path)).load()
