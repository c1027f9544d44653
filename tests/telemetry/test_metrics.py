"""Every metric that is promised, with its name and type; what is counted when; labels that stay within their sets."""

import os
import re
import struct
from collections import deque
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs import errors
from hmacfs.services.observer import OTHER, SLOT, UPLOAD, Exchange, Observer
from hmacfs.services.observers import Observers
from hmacfs.telemetry import counters, families
from hmacfs.telemetry.counters import Counters
from hmacfs.telemetry.exposition import Exposition
from hmacfs.telemetry.metrics import MetricsObserver
from tests.support.metrics import Scrape, parsed
from tests.support.running import small_tmpfs
from tests.support.server import ROOT

PROMISED = """
hmac_file_server_upload_duration_seconds histogram
hmac_file_server_uploads_total counter
hmac_file_server_upload_errors_total counter
hmac_file_server_download_duration_seconds histogram
hmac_file_server_downloads_total counter
hmac_file_server_download_errors_total counter
memory_usage_bytes gauge
cpu_usage_percent gauge
active_connections_total gauge
goroutines_count gauge
hmac_file_server_goroutines gauge
http_requests_total counter method path
hmac_file_server_upload_bytes_total counter
hmac_file_server_download_bytes_total counter
hmac_file_server_upload_size_bytes histogram
hmac_file_server_errors_total counter operation code
hmac_file_server_auth_failures_total counter protocol reason
hmac_file_server_bans_total counter
hmac_file_server_bans_active gauge
hmac_file_server_rate_limited_total counter
hmac_file_server_transfers_active gauge direction
hmac_file_server_sessions_active gauge
hmac_file_server_resumed_uploads_total counter
hmac_file_server_store_bytes gauge
hmac_file_server_store_files gauge
hmac_file_server_store_free_bytes gauge
hmac_file_server_files_deleted_total counter reason
hmac_file_server_deduplicated_bytes_total counter
hmac_file_server_versions_kept gauge
hmac_file_server_backend_up gauge backend
hmac_file_server_backend_errors_total counter backend
hmac_file_server_state_failovers_total counter
hmac_file_server_disk_queue_seconds histogram
hmac_file_server_fsync_duration_seconds histogram
hmac_file_server_build_info gauge version
"""
"""The table of the specification, and what deduplication saves: name, type, labels."""

ROUTES = {SLOT: "/upload/<path>", UPLOAD: "/upload/.uploads/<id>", OTHER: OTHER, "/metrics": "/metrics"}


class House:
    """The counters of one worker after another, and what is told of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.stored: list[tuple[int, int]] = []
        self.warned: list[str] = []
        self.exposition = Exposition(self.folder, dict)
        self.take_over()

    def take_over(self, slot: int = 0) -> None:
        """A new worker has the slot."""
        self.counters = Counters(self.folder, slot, ROUTES, self.warned.append)
        self.observer = MetricsObserver(self.counters, lambda files, count: self.stored.append((files, count)))

    def told(self) -> Scrape:
        text, self.torn = self.exposition.text()
        return parsed(text.decode())

    def answered(self, method: str = "GET", status: int = 200, code: str = "", route: str = SLOT, **more: int) -> None:
        self.observer.answered(Exchange(method, "x", "192.0.2.1", status, code, route=route, **more))  # type: ignore[arg-type]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_names_types_and_labels_are_those_that_were_promised() -> None:
    kinds = {"counter": families.COUNTERS, "histogram": families.HISTOGRAMS, "gauge": families.GAUGES}

    found = {(each.name, kind, each.labels) for kind, all_ in kinds.items() for each in all_}

    promised = [line.split() for line in PROMISED.strip().splitlines()]
    assert found == {(name, kind, tuple(labels)) for name, kind, *labels in promised}


def test_every_one_is_explained_to_people() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")

    told = {name.partition("{")[0]: labels for name, labels in re.findall(r"`([a-z_]+)(\{[a-z,]+\})?`", text)}

    for each in (*families.COUNTERS, *families.HISTOGRAMS, *families.GAUGES):
        assert told[each.name] == ("{" + ",".join(each.labels) + "}" if each.labels else "")


def test_what_dashboards_ask_for_is_there_before_anything_has_happened(house: House) -> None:
    told = house.told()

    expected = {each.name for each in (*families.COUNTERS, *families.HISTOGRAMS) if not each.labels}
    assert expected | {"http_requests_total"} <= told.types.keys()
    assert told.value("hmac_file_server_uploads_total") == 0
    assert told.value("http_requests_total", method="GET", path="/upload/<path>") == 0
    assert ("hmac_file_server_uploads_total", ()) in told.samples


def test_buckets_are_those_that_were_promised(house: House) -> None:
    told = house.told()

    bounds = [each["le"] for each in told.labels("hmac_file_server_upload_duration_seconds_bucket")]
    assert [float(each) for each in bounds] == [0.01, 0.05, 0.25, 1, 5, 15, 60, 300, 900, float("inf")]
    sizes = [float(each["le"]) for each in told.labels("hmac_file_server_upload_size_bytes_bucket")]
    assert sizes == [*(1024 * 4**power for power in range(12)), float("inf")]
    assert sizes[-2] == 4 * 1024**3


def test_an_upload_counts_with_its_bytes_its_size_and_its_time(house: House) -> None:
    house.observer.upload_completed("a", 2000, 0.3)
    house.answered("PUT", 201, kept=2000)

    told = house.told()

    assert told.value("hmac_file_server_uploads_total") == 1
    assert told.value("hmac_file_server_upload_bytes_total") == 2000
    assert told.value("hmac_file_server_upload_size_bytes_bucket", le="4096.0") == 1
    assert told.value("hmac_file_server_upload_size_bytes_bucket", le="1024.0") == 0
    assert told.value("hmac_file_server_upload_duration_seconds_sum") == pytest.approx(0.3)
    assert told.value("http_requests_total", method="PUT", path="/upload/<path>") == 1
    assert told.value("hmac_file_server_upload_errors_total") == 0
    assert house.stored == [(1, 2000)]


def test_a_download_counts_when_all_of_it_was_sent(house: House) -> None:
    house.answered(sent=500, whole=500)
    house.answered(status=206, sent=10, whole=10)

    told = house.told()

    assert told.value("hmac_file_server_downloads_total") == 2
    assert told.value("hmac_file_server_download_bytes_total") == 510
    assert told.value("hmac_file_server_download_duration_seconds_count") == 2


def test_a_download_that_was_broken_off_is_an_error(house: House) -> None:
    house.answered(sent=100, whole=500)

    told = house.told()

    assert told.value("hmac_file_server_downloads_total") == 0
    assert told.value("hmac_file_server_download_errors_total") == 1
    assert told.value("hmac_file_server_download_bytes_total") == 100
    assert told.value("hmac_file_server_errors_total", operation="download", code="aborted") == 1


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304), ("OPTIONS", 204)])
def test_what_sends_no_file_is_no_download(house: House, method: str, status: int) -> None:
    house.answered(method, status)

    assert house.told().value("hmac_file_server_downloads_total") == 0
    assert house.told().value("hmac_file_server_download_errors_total") == 0


@pytest.mark.parametrize(
    ("method", "route", "operation", "counter"),
    [
        ("PUT", SLOT, "upload", "hmac_file_server_upload_errors_total"),
        ("PATCH", UPLOAD, "upload", "hmac_file_server_upload_errors_total"),
        ("GET", SLOT, "download", "hmac_file_server_download_errors_total"),
        ("HEAD", SLOT, "download", ""),
        ("DELETE", SLOT, "delete", ""),
        ("BREW", SLOT, "other", ""),
        ("GET", OTHER, "other", ""),
    ],
)
def test_an_error_counts_by_what_was_tried_and_its_code(
    house: House, method: str, route: str, operation: str, counter: str
) -> None:
    house.answered(method, 403, "bad-signature", route)

    told = house.told()

    assert told.value("hmac_file_server_errors_total", operation=operation, code="bad-signature") == 1
    for name in ("hmac_file_server_upload_errors_total", "hmac_file_server_download_errors_total"):
        assert told.value(name) == (name == counter)


def test_what_shared_content_saves_is_counted(house: House) -> None:
    house.observer.content_shared("a/b", 1000)
    house.observer.content_shared("a/c", 234)

    assert house.told().value("hmac_file_server_deduplicated_bytes_total") == 1234


def test_a_body_that_goes_on_counts_as_resumed(house: House) -> None:
    house.answered("PATCH", 204, route=UPLOAD, received=10, kept=10, is_continued=True)
    house.answered("PATCH", 204, route=UPLOAD, received=10, kept=10)

    told = house.told()

    assert told.value("hmac_file_server_resumed_uploads_total") == 1
    assert told.value("hmac_file_server_upload_bytes_total") == 20


def test_bytes_count_that_were_kept_of_a_refused_body_and_those_that_were_not_do_not(house: House) -> None:
    house.answered("PATCH", 400, errors.Truncated.code, UPLOAD, received=10, kept=7)
    house.answered("PUT", 201, received=5)

    assert house.told().value("hmac_file_server_upload_bytes_total") == 7


def test_rate_limits_bans_and_signatures_count(house: House) -> None:
    house.answered(status=429, code=errors.TooManyRequests.code)
    house.observer.banned("192.0.2.1", 300, 1)
    exchange = Exchange("PUT", "x", "192.0.2.1", protocol="v2")
    house.observer.signature_refused(exchange, "wrong", 5, "text/plain")

    told = house.told()

    assert told.value("hmac_file_server_rate_limited_total") == 1
    assert told.value("hmac_file_server_bans_total") == 1
    assert told.value("hmac_file_server_auth_failures_total", protocol="v2", reason="wrong") == 1


def test_deleted_files_count_by_reason_and_leave_the_store(house: House) -> None:
    house.observer.file_removed("a", 10, "FileTTL", 0)
    house.observer.version_removed("a", 3, 20, 0, "MaxVersions")
    house.observer.file_removed("b", 5, "DELETE", 0, "192.0.2.1")

    told = house.told()

    for reason in ("FileTTL", "MaxVersions", "DELETE"):
        assert told.value("hmac_file_server_files_deleted_total", reason=reason) == 1
    assert house.stored == [(-1, -10), (-1, -20), (-1, -5)]


def test_a_published_file_that_is_none_more_leaves_the_store_as_it_was(house: House) -> None:
    house.observer.upload_completed("a", 10, 0.1)
    house.observer.file_absorbed(10)

    assert house.stored == [(1, 10), (-1, -10)]


def test_a_change_of_tiers_is_a_failover_and_a_tier_that_dies_an_error(house: House) -> None:
    house.observer.tiers_changed("redis", "postgres", frozenset())
    house.observer.tiers_changed("postgres", "postgres", frozenset({"redis"}))
    house.observer.tiers_changed("postgres", "postgres", frozenset({"redis"}))

    told = house.told()

    assert told.value("hmac_file_server_state_failovers_total") == 1
    assert told.value("hmac_file_server_backend_errors_total", backend="redis") == 1


# --- labels ---


@given(method=st.text(max_size=8), route=st.text(max_size=20), code=st.text(max_size=8), reason=st.text(max_size=8))
def test_no_text_of_a_client_becomes_a_label(
    tmp_path_factory: pytest.TempPathFactory, method: str, route: str, code: str, reason: str
) -> None:
    house = House(tmp_path_factory.mktemp("labels"))

    house.answered(method, 400, code, route)
    house.answered(method, 200, "", route)
    house.observer.signature_refused(Exchange("PUT", "x", "", protocol=method), reason, 1, code)
    house.observer.file_removed("x", 1, reason, 0)

    told = house.told()
    for each in told.labels("http_requests_total"):
        assert each["method"] in (*families.METHODS, families.OTHER)
        assert each["path"] in ROUTES.values()
    for each in told.labels("hmac_file_server_errors_total"):
        assert each["operation"] in families.OPERATIONS
        assert each["code"] in every_code()
    for each in told.labels("hmac_file_server_auth_failures_total"):
        assert each["protocol"] in (*families.PROTOCOLS, families.OTHER)
        assert each["reason"] in (*families.REASONS, families.OTHER)
    for each in told.labels("hmac_file_server_files_deleted_total"):
        assert each["reason"] in (*families.DELETED, families.OTHER)


def every_code(kind: type[errors.RequestError] = errors.RequestError) -> set[str]:
    return {kind.code}.union(*(every_code(each) for each in kind.__subclasses__()), {"aborted"})


def test_a_thousand_methods_are_one_series_and_no_memory(house: House) -> None:
    house.answered("M-first")
    before = len(house.counters._cells)

    for number in range(1000):
        house.answered(f"M{number}")

    assert house.told().value("http_requests_total", method="other", path="/upload/<path>") == 1001
    assert len(house.counters._cells) == before


# --- memory that outlives a worker ---


def test_who_takes_over_a_slot_counts_on(house: House) -> None:
    house.answered(sent=5, whole=5)

    house.take_over()  # nothing was flushed, closed or told: so it is after a SIGKILL
    house.answered(sent=5, whole=5)

    assert house.told().value("hmac_file_server_downloads_total") == 2
    assert sorted(os.listdir(house.folder)) == ["counter_0.db", "histogram_0.db"]


def test_slots_are_added_up(house: House) -> None:
    house.answered(sent=5, whole=5)
    house.take_over(slot=1)
    house.answered(sent=5, whole=5)

    assert house.told().value("hmac_file_server_downloads_total") == 2


def test_a_value_that_is_made_while_the_file_grows_counts_as_the_others(house: House) -> None:
    codes = sorted(every_code())
    for operation in families.OPERATIONS:
        for code in codes:
            house.observer.error(operation, code)
    size = os.path.getsize(os.path.join(house.folder, "counter_0.db"))
    house.answered(sent=5, whole=5)  # its value has lain there since before

    told = house.told()

    assert told.total(["hmac_file_server_errors_total"]) == len(families.OPERATIONS) * len(codes)
    assert told.value("hmac_file_server_downloads_total") == 1
    assert size >= 64 * 1024


# --- a folder in memory that is full ---


SERIES = 600
"""More than a file has room for at first, and more than there are; the sets of labels may grow."""


def every_error(house: House) -> None:
    for number in range(SERIES):
        house.observer.error("upload", f"code-{number}")


def test_no_page_of_a_file_is_left_to_be_found_when_it_is_touched(house: House) -> None:
    def sizes() -> list[int]:
        found = [os.stat(os.path.join(house.folder, name)) for name in sorted(os.listdir(house.folder))]
        assert all(info.st_blocks * 512 >= info.st_size for info in found)
        return [info.st_size // 1024 for info in found]

    assert sizes() == [64, 64]

    every_error(house)

    assert sizes() == [128, 64]
    assert house.told().total(["hmac_file_server_errors_total"]) == SERIES


def test_a_series_for_which_there_is_no_room_is_not_counted_and_that_is_told_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "allocate", lambda fd, size: "No space left on device")

    every_error(house)
    house.answered(sent=5, whole=5)

    told = house.told()
    assert 0 < told.total(["hmac_file_server_errors_total"]) < SERIES
    assert told.value("hmac_file_server_downloads_total") == 1
    assert len(house.warned) == 1
    assert f"no room in {house.folder} (No space left on device)" in house.warned[0]


def test_a_worker_that_begins_where_there_is_no_room_counts_nothing_and_serves(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.answered(sent=5, whole=5)
    monkeypatch.setattr(counters, "allocate", lambda fd, size: "No space left on device")

    house.take_over(slot=1)
    house.answered(sent=5, whole=5)
    every_error(house)
    house.counters.histogram("disk_queue_seconds").observe_all(deque([0.1, 0.2]))

    assert house.told().value("hmac_file_server_downloads_total") == 1
    assert len(house.warned) == 1


def counted_while_it_fills_up(memory: Path) -> None:
    house = House(memory)
    with open(memory / "filling", "wb", buffering=0) as filling, suppress(OSError):
        while True:
            filling.write(bytes(4096))
    every_error(house)
    house.answered(sent=5, whole=5)
    house.take_over(slot=1)
    house.answered(sent=5, whole=5)
    assert house.told().value("hmac_file_server_downloads_total") == 1
    assert len(house.warned) == 2  # each worker for itself


def test_a_memory_that_fills_up_ends_nobody(tmp_path: Path) -> None:
    with small_tmpfs(tmp_path / "memory", 1) as memory:
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                counted_while_it_fills_up(memory)
                os._exit(0)
            os._exit(1)

        _, status = os.waitpid(pid, 0)

        assert status == 0  # a SIGBUS would be a 7


def torn(path: str) -> None:
    """The length of the first key reaches beyond what is used, as in a file that was cut."""
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(struct.pack("i", 1 << 30))


def test_a_torn_file_is_skipped_and_told_once(house: House) -> None:
    house.answered(sent=5, whole=5)
    house.take_over(slot=1)
    house.answered(sent=5, whole=5)
    torn(os.path.join(house.folder, "counter_0.db"))

    told = house.told()

    assert told.value("hmac_file_server_downloads_total") == 1
    assert told.value("hmac_file_server_download_duration_seconds_count") == 2  # another file, which is whole
    assert house.torn == 1
    house.told()
    assert house.torn == 0


def test_a_file_that_has_just_been_made_is_not_torn(house: House) -> None:
    house.answered(sent=5, whole=5)
    Path(house.folder, "counter_7.db").touch()

    assert house.told().value("hmac_file_server_downloads_total") == 1
    assert house.torn == 0


def test_who_takes_over_a_torn_file_begins_anew_and_counts_it(house: House) -> None:
    house.answered(sent=5, whole=5)
    torn(os.path.join(house.folder, "counter_0.db"))

    house.take_over()
    house.answered(sent=5, whole=5)

    assert house.told().value("hmac_file_server_downloads_total") == 1
    assert house.told().value("hmac_file_server_errors_total", operation="metrics", code="internal") == 1


def test_the_environment_is_left_as_it_was(house: House) -> None:
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    house.told()


# --- what pool threads measure ---


def test_measured_times_fall_into_the_buckets_of_prometheus(house: House) -> None:
    """The bound belongs to its bucket: le is "less or equal"."""
    measured = deque([0.0001, 0.0005, 0.00051, 3.0, 99.0])

    house.counters.histogram("disk_queue_seconds").observe_all(measured)

    told = house.told()
    assert not measured
    assert told.value("hmac_file_server_disk_queue_seconds_bucket", le="0.0005") == 2
    assert told.value("hmac_file_server_disk_queue_seconds_bucket", le="0.001") == 3
    assert told.value("hmac_file_server_disk_queue_seconds_bucket", le="5.0") == 4
    assert told.value("hmac_file_server_disk_queue_seconds_bucket", le="+Inf") == 5
    assert told.value("hmac_file_server_disk_queue_seconds_count") == 5
    assert told.value("hmac_file_server_disk_queue_seconds_sum") == pytest.approx(102.00111)


# --- several observers ---


def test_every_listener_hears_everything() -> None:
    heard: list[tuple[int, str]] = []

    class Listener(Observer):
        def __init__(self, number: int) -> None:
            self.number = number

        def __getattribute__(self, name: str) -> object:
            if name.startswith("_") or name == "number":
                return object.__getattribute__(self, name)
            return lambda *_args, **_options: heard.append((self.number, name))

    both = Observers((Listener(1), Listener(2)))
    names = [name for name in vars(Observer) if not name.startswith("_")]
    for name in names:
        getattr(both, name)(*[None] * (Observer.__dict__[name].__code__.co_argcount - 1))

    assert heard == [(number, name) for name in names for number in (1, 2)]
