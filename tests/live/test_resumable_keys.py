"""Each key of the configuration that resumable uploads obey, seen in what a client gets."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.http import MIB, Answer, Connection, get, head_of, mac, put, request
from tests.support.polling import until
from tests.support.server import Server, tree
from tests.support.slot import (
    DRAFT_BODY,
    LAST,
    TUS,
    TUS_BODY,
    Slot,
    content,
    draft_patch,
    face,
    token_header,
    tus,
    tus_patch,
)

TOKEN = "a-token-of-this-test"
WAYS = ("session", "tus", "draft")


def kept_in(server: Server) -> list[str]:
    """Files of unfinished uploads."""
    return [name for name in tree(server.store_dir) if name.endswith((".part", ".log"))]


def begun(slot: Slot, way: str, body: bytes) -> Answer:
    """The first bytes of an upload."""
    if way == "session":
        return slot.piece(0, body, f"{TOKEN}-{slot.path}".translate(str.maketrans("/.", "--")))
    return slot.create_tus(body) if way == "tus" else slot.create_draft(body)


def continued(slot: Slot, way: str, first: Answer, offset: int, body: bytes) -> Answer:
    """The rest of the upload that ``first`` began."""
    if way == "session":
        return slot.piece(offset, body, first["X-Session-Token"])
    patch = tus_patch if way == "tus" else draft_patch
    return patch(slot.site, first["Location"], offset, body)


def offset_of(slot: Slot, way: str, first: Answer) -> str:
    if way == "session":
        return slot.ask(first["X-Session-Token"])["Upload-Offset"]
    return tus(slot.site, "HEAD", first["Location"])["Upload-Offset"]


# ResumableUploadsEnabled


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("plain"), ResumableUploadsEnabled=False) as running:
        yield running


def test_without_resumable_uploads_enabled_a_content_range_is_400(plain: Server) -> None:
    slot = Slot(plain, "off/range", 10)

    answers = [slot.ask(TOKEN), slot.piece(0, b"01234", TOKEN), slot.piece(0, b"0123456789", TOKEN)]

    assert [face(answer) for answer in answers] == [(400, "bad-content-range")] * 3
    assert not kept_in(plain)


def test_without_resumable_uploads_enabled_post_is_405_and_options_tells_nothing_of_tus(plain: Server) -> None:
    refused = Slot(plain, "off/tus", 10).create_tus()
    told = request(plain, "OPTIONS", "/upload/off/tus", [TUS])

    assert face(refused) == (405, "method-not-allowed")
    assert refused["Allow"] == told["Allow"] == "GET, HEAD, OPTIONS, PUT"
    assert not [name for name, _ in told.headers if name.startswith(("Tus-", "Upload-"))]


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE", "OPTIONS", "GET", "PUT", "POST"])
def test_without_resumable_uploads_enabled_an_upload_resource_is_a_bad_path(plain: Server, method: str) -> None:
    answer = request(plain, method, f"/upload/.uploads/{'A' * 24}{'0' * 32}", [TUS, ("Content-Length", "0")])

    assert face(answer) == (400, "bad-path")


def test_without_resumable_uploads_enabled_a_token_changes_nothing(plain: Server) -> None:
    slot = Slot(plain, "off/token", 10)

    created = slot.put(b"0123456789", token_header(TOKEN))

    assert created.status == 201
    assert created.get("X-Session-Token") is None
    assert get(plain, slot.path).body == b"0123456789"


def test_without_resumable_uploads_enabled_a_part_is_never_stored_as_the_file(plain: Server) -> None:
    slot = Slot(plain, "off/draft", 10)

    assert slot.create_draft(b"01234").status in (400, 403)
    assert get(plain, slot.path).status == 404


# ChunkingEnabled


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("in-order"), ChunkingEnabled=False) as running:
        yield running


def test_without_chunking_enabled_only_a_piece_at_the_offset_is_accepted(in_order: Server) -> None:
    slot, token = Slot(in_order, "order/pieces", 30), "a-token-of-order-0001"
    body = content(30)
    slot.piece(0, body[:10], token)

    refused = [slot.piece(first, body[first : first + 10], token) for first in (20, 11, 9, 0)]
    accepted = [slot.piece(first, body[first : first + 10], token) for first in (10, 20)]

    assert [(*face(a), a["Upload-Offset"], a["X-Session-Token"]) for a in refused] == [
        (409, "mismatching-upload-offset", "10", token)
    ] * 4
    assert [answer.status for answer in accepted] == [202, 201]
    assert get(in_order, slot.path).body == body


def test_a_refusal_tells_the_token_also_to_a_client_that_sent_none(in_order: Server) -> None:
    slot, token = Slot(in_order, "order/forgetful", 30), "a-token-of-order-0003"
    slot.piece(0, b"0123456789", token)

    refused = slot.piece(20, b"0123456789")

    assert face(refused) == (409, "mismatching-upload-offset")
    assert (refused["Upload-Offset"], refused["X-Session-Token"]) == ("10", token)


def test_without_chunking_enabled_a_refused_piece_is_not_asked_to_go_on(in_order: Server) -> None:
    slot = Slot(in_order, "order/continue", 30)
    slot.piece(0, b"0123456789", "a-token-of-order-0002")
    said = [slot.range(20, 10), *token_header("a-token-of-order-0002"), ("Expect", "100-continue")]

    with Connection(in_order.address) as connection:
        connection.send(slot.put_head(10, said))
        answer = connection.read_answer()

    assert face(answer) == (409, "mismatching-upload-offset")


# MaxSessionsPerSlot


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("two-sessions"), MaxSessionsPerSlot=2) as running:
        yield running


def test_beyond_max_sessions_per_slot_one_more_session_is_429(two: Server) -> None:
    slot = Slot(two, "sessions/slot", 10)
    tokens = [f"a-token-of-sessions-{number}" for number in range(3)]

    answers = [slot.piece(0, b"01234", token) for token in tokens]
    elsewhere = Slot(two, "sessions/other", 10).piece(0, b"01234", tokens[2])
    last = slot.piece(5, b"56789", tokens[0])

    assert [answer.status for answer in answers] == [202, 202, 429]
    assert answers[2].code == "too-many-sessions"
    assert answers[2]["X-Session-Token"] == tokens[2]
    assert int(answers[2]["Retry-After"]) > 0
    assert (elsewhere.status, last.status) == (202, 201)


def test_beyond_max_sessions_per_slot_a_plain_put_is_429_too(two: Server) -> None:
    slot = Slot(two, "sessions/put", 200_000)
    for number in range(2):
        slot.piece(0, b"01234", f"a-token-of-put-{number:08d}")

    with_token = slot.put(content(slot.total), token_header("a-token-of-put-again"))
    without = slot.put(content(slot.total))

    assert face(with_token) == face(without) == (429, "too-many-sessions")


@pytest.mark.parametrize("way", ["tus", "draft"])
def test_beyond_max_sessions_per_slot_a_creation_drops_the_least_advanced_idle_upload(two: Server, way: str) -> None:
    slot = Slot(two, f"sessions/{way}", 10)
    first, second = begun(slot, way, b"0123"), begun(slot, way, b"01")

    third = begun(slot, way, b"012")

    assert [offset_of(slot, way, answer) for answer in (first, third)] == ["4", "3"]
    assert tus(two, "HEAD", second["Location"]).status == 404


def test_beyond_max_sessions_per_slot_a_creation_never_drops_what_is_being_written(two: Server) -> None:
    slot = Slot(two, "sessions/busy", 2 * MIB)
    locations = [slot.create_tus()["Location"] for _ in range(2)]

    with ExitStack() as stack:
        running = []
        for location in locations:
            connection = stack.enter_context(Connection(two.address))
            said = [TUS, TUS_BODY, ("Upload-Offset", "0"), ("Content-Length", str(slot.total))]
            connection.send(head_of("PATCH", location, said) + content(MIB))
            running.append(connection)
        until(lambda: sum(name.endswith(".part") for name in two.open_store_files()) == 2, "both are being written")
        refused = slot.create_tus()
        running[0].send(content(slot.total)[MIB:])
        done = running[0].read_answer()

    assert face(refused) == (429, "too-many-sessions")
    assert done.status == 204


# SessionTTL and SweepInterval


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("brief"), SessionTTL=2) as running:
        yield running


def test_after_session_ttl_an_upload_is_forgotten_and_its_space_is_free(brief: Server) -> None:
    slots = {way: Slot(brief, f"brief/{way}", 10) for way in WAYS}
    before = time.time()
    firsts = {way: begun(slot, way, b"01234") for way, slot in slots.items()}

    until(lambda: not kept_in(brief), "all of it is removed")
    until(lambda: len(brief.lines("Unfinished upload removed: brief/")) == 3, "the log tells it")
    asked = [tus(brief, "HEAD", firsts["tus"]["Location"]), request(brief, "HEAD", firsts["draft"]["Location"])]
    later = continued(slots["session"], "session", firsts["session"], 5, b"56789")

    assert time.time() - before > 1.9
    assert [face(answer) for answer in (*asked, later)] == [(404, "unknown-upload")] * 3
    assert slots["session"].ask()["Upload-Offset"] == "0"


def test_after_session_ttl_a_published_upload_is_forgotten_and_its_file_stays(brief: Server) -> None:
    slot = Slot(brief, "brief/published", 10)
    location = slot.create_tus(b"0123456789")["Location"]
    known = tus(brief, "HEAD", location).status

    until(lambda: tus(brief, "HEAD", location).status == 404, "it is forgotten")

    assert known == 200
    assert get(brief, slot.path).body == b"0123456789"


def test_session_ttl_is_told_as_max_age_and_as_the_moment_of_expiry(brief: Server) -> None:
    assert request(brief, "OPTIONS", "/upload/")["Upload-Limit"].endswith("max-age=2")


def aged(server: Server, seconds: float) -> None:
    """Nothing has changed in any unfinished upload for so long."""
    then = time.time() - seconds
    for name in kept_in(server):
        os.utime(name, (then, then))


def test_session_ttl_holds_before_any_sweep(server: Server) -> None:
    slot = Slot(server, "expired/unswept", 10)
    firsts = {way: begun(Slot(server, f"expired/{way}", 10), way, b"01234") for way in WAYS}

    aged(server, 25 * 3600)

    assert tus(server, "HEAD", firsts["tus"]["Location"]).status == 404
    assert draft_patch(server, firsts["draft"]["Location"], 5, b"56789").status == 404
    answer = Slot(server, "expired/session", 10).ask(firsts["session"]["X-Session-Token"])
    assert (answer.status, answer["Upload-Offset"]) == (202, "0")
    assert slot.ask()["Upload-Offset"] == "0"


def test_every_sweep_interval_what_has_expired_is_removed(tmp_path: Path) -> None:
    with Server(tmp_path, SweepInterval=1) as server:
        begun(Slot(server, "swept/expired", 10), "tus", b"01234")
        aged(server, 25 * 3600)
        fresh = begun(Slot(server, "swept/fresh", 10), "tus", b"01234")

        until(lambda: server.lines("Unfinished upload removed: swept/expired"), "it is swept")

        assert tus(server, "HEAD", fresh["Location"])["Upload-Offset"] == "5"
        assert len(kept_in(server)) == 2  # of the fresh one: the sweep asked for nothing


# Keys of all uploads

LARGEST = 2 * MIB


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Has all the keys of ordinary uploads that resumable ones obey."""
    with Server(
        tmp_path_factory.mktemp("tuned"),
        ContentTypeFromExtension=True,
        CORSOrigins=["https://chat.example.org"],
        EnableInterimResponses=True,
        MaxUploadsPerClient=1,
        ReadTimeout=2,
        TrustedProxies=[],
        UploadMaxSize=LARGEST,
        UploadSubDir="a/b",
    ) as running:
        yield running


RATE = MIB


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("paced"), MaxBytesPerSecond=RATE) as running:
        yield running


def unfinished(slot: Slot, way: str, first: Answer, offset: int, length: int) -> bytes:
    """The head of a request that continues an upload with ``length`` bytes."""
    if way == "session":
        return slot.put_head(length, [slot.range(offset, length), *token_header(first["X-Session-Token"])])
    at = [("Upload-Offset", str(offset)), ("Content-Length", str(length))]
    kind = [TUS, TUS_BODY] if way == "tus" else [DRAFT_BODY, LAST]
    return head_of("PATCH", first["Location"], [*kind, *at])


def being_written(server: Server) -> int:
    return sum(name.endswith(".part") for name in server.open_store_files())


@pytest.mark.parametrize("way", WAYS)
def test_content_type_from_extension_holds_for_every_piece(tuned: Server, way: str) -> None:
    signed = mac(tuned.secret, b"\0".join((f"ext/{way}.txt".encode(), b"10", b"text/plain; charset=utf-8")))
    slot = Slot(tuned, f"ext/{way}.txt", 10, "application/x-other", query=f"v2={signed}")

    first = begun(slot, way, b"01234")
    last = continued(slot, way, first, 5, b"56789")

    assert last.status in (201, 204)
    assert get(tuned, slot.path)["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("way", WAYS)
def test_upload_max_size_is_judged_on_the_total(tuned: Server, way: str) -> None:
    most, more = (begun(Slot(tuned, f"{way}/{total}", total), way, b"01") for total in (LARGEST, LARGEST + 1))
    told = request(tuned, "OPTIONS", "/a/b/")

    assert most.status in (201, 202)
    assert face(more) == (413, "too-large")
    assert (told["Tus-Max-Size"], told["Upload-Limit"].split(", ")[0]) == (str(LARGEST), f"max-size={LARGEST}")


@pytest.mark.parametrize("way", WAYS)
def test_max_uploads_per_client_counts_pieces(tuned: Server, way: str) -> None:
    slot = Slot(tuned, f"one/{way}", MIB)
    first = begun(slot, way, b"01")

    with Connection(tuned.address) as connection:
        connection.send(unfinished(slot, way, first, 2, slot.total - 2) + bytes(100_000))
        until(lambda: being_written(tuned), "it is being written")
        refused = put(tuned, "one/more", bytes(MIB))
    until(lambda: put(tuned, f"one/after-{way}").status == 201, "its place is free again")

    assert face(refused) == (429, "too-many-uploads")


@pytest.mark.parametrize("way", WAYS)
def test_max_bytes_per_second_holds_for_pieces(paced: Server, way: str) -> None:
    slot = Slot(paced, f"paced/{way}", RATE + 2)
    first = begun(slot, way, b"01")
    started = time.monotonic()

    last = continued(slot, way, first, 2, bytes(RATE))

    assert last.status in (201, 204)
    assert time.monotonic() - started >= 0.85  # the last eighth of a second's bytes is not paused for


@pytest.mark.parametrize("way", WAYS)
def test_read_timeout_ends_a_silent_piece_and_keeps_what_arrived(tuned: Server, way: str) -> None:
    slot = Slot(tuned, f"silent/{way}", 10)
    first = begun(slot, way, b"01")

    with Connection(tuned.address) as connection:
        connection.send(unfinished(slot, way, first, 2, 8) + b"234")
        silent = connection.read_answer()

    assert face(silent) == (408, "body-timeout")
    assert offset_of(slot, way, first) == "5"


@pytest.mark.parametrize("is_on", [True, False])
def test_enable_interim_responses_decides_on_104(tuned: Server, server: Server, is_on: bool) -> None:
    slot = Slot(tuned if is_on else server, "interim/file", 10)

    with Connection(slot.site.address) as connection:
        connection.send(slot.put_head(10, [LAST, ("Upload-Draft-Interop-Version", "8")]) + content(10))
        first = connection.read_head()

    assert first.status == (104 if is_on else 201)
    if is_on:
        assert first["Location"].startswith("/a/b/.uploads/")


def test_cors_origins_hold_for_upload_resources(tuned: Server) -> None:
    free = Slot(tuned, "cors/free", 10)  # a place: the only upload of this address may be on its way out
    until(lambda: free.create_tus().status == 201, "the upload of the test before is over")
    location = Slot(tuned, "cors/file", 10).create_tus()["Location"]

    allowed, other = (
        tus_patch(tuned, location, 5, b"x", [("Origin", origin)])
        for origin in ("https://chat.example.org", "https://evil.example")
    )

    assert (allowed.status, allowed["Access-Control-Allow-Origin"]) == (409, "https://chat.example.org")
    assert (other.status, other.get("Access-Control-Allow-Origin"), other["Vary"]) == (409, None, "Origin")


def test_upload_resources_live_behind_upload_sub_dir(tuned: Server, tmp_path: Path) -> None:
    with Server(tmp_path, UploadSubDir="") as bare:
        for server, prefix in ((bare, "/"), (tuned, "/a/b/")):
            location = Slot(server, "prefix/file", 10).create_tus(b"01234")["Location"]

            assert location.startswith(f"{prefix}.uploads/")
            assert tus_patch(server, location, 5, b"56789").status == 204
            assert get(server, "prefix/file").body == b"0123456789"


def test_at_graceful_shutdown_timeout_what_arrived_is_kept_and_goes_on_after_the_start(tmp_path: Path) -> None:
    server = Server(tmp_path, GracefulShutdownTimeout=1)
    slots = {way: Slot(server, f"stopped/{way}", 2 * MIB) for way in WAYS}
    body = content(2 * MIB)

    with server, ExitStack() as stack:
        firsts = {way: begun(slot, way, body[:1000]) for way, slot in slots.items()}
        connections = [stack.enter_context(Connection(server.address)) for _ in WAYS]
        for way, connection in zip(WAYS, connections, strict=True):
            head = unfinished(slots[way], way, firsts[way], 1000, len(body) - 1000)
            connection.send(head + body[1000:MIB])
        until(lambda: being_written(server) == 3, "all are being written")
        server.signal(signal.SIGTERM)
        refused = [face(connection.read_answer()) for connection in connections]
        stack.close()  # the server would wait for them to do that
        server.wait()
    with server:
        offsets = [int(offset_of(slots[way], way, firsts[way])) for way in WAYS]
        last = [continued(slots[way], way, firsts[way], MIB, body[MIB:]).status for way in WAYS]
        fetched = [get(server, slots[way].path).body == body for way in WAYS]

    assert refused == [(503, "draining")] * 3
    assert offsets == [MIB] * 3
    assert last == [201, 204, 201]
    assert fetched == [True] * 3
