"""What one worker counts beside its requests."""

from pathlib import Path

import pytest

from hmacfs import offload
from hmacfs.operations import Counting
from hmacfs.settings import Settings
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage import fsutil
from hmacfs.telemetry.exposition import Exposition
from tests.support.metrics import Scrape, parsed

WAITS, SYNCS = "hmac_file_server_disk_queue_seconds", "hmac_file_server_fsync_duration_seconds"


@pytest.fixture(autouse=True)
def _nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "waits", type(offload.waits)(maxlen=10))
    monkeypatch.setattr(fsutil, "sync_seconds", type(fsutil.sync_seconds)(maxlen=10))


def told(folder: Path) -> Scrape:
    text, _ = Exposition(str(folder), dict).text()
    return parsed(text.decode())


def test_a_worker_counts_its_own_syncs_and_not_those_that_it_inherited(tmp_path: Path) -> None:
    offload.waits.append(0.5)
    fsutil.sync_seconds.append(0.5)
    counting = Counting(Settings(), str(tmp_path), Scoreboard())
    with fsutil.opened_directory(str(tmp_path)) as folder:
        fsutil.fsync(folder)

    counting.tick()

    assert told(tmp_path).value(f"{SYNCS}_count") == 1
    assert told(tmp_path).value(f"{WAITS}_count") == 0


def test_a_head_that_nobody_understood_is_counted_without_its_words(tmp_path: Path) -> None:
    counting = Counting(Settings(), str(tmp_path), Scoreboard())

    counting.head_refused()

    assert told(tmp_path).value("http_requests_total", method="other", path="other") == 1
    assert told(tmp_path).value("hmac_file_server_errors_total", operation="other", code="bad-head") == 1


def test_where_nothing_is_counted_such_a_head_is_no_fault_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    counting = Counting(Settings(metrics_enabled=False), "", Scoreboard())

    counting.head_refused()

    assert list(tmp_path.iterdir()) == []
