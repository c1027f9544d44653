"""EnableVersioning, MaxVersions and VersionsPerDay on a running server with two workers (protocol, section 5.5)."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http import get, mac, put, url_of
from tests.support.http import request as send
from tests.support.metrics import scrape
from tests.support.polling import until
from tests.support.server import Server
from tests.support.slot import Slot, content, fresh_token


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("versions")
    with Server(
        folder, NumCores=2, EnableVersioning=True, MaxVersions=3, VersionsPerDay=0, MaxSessionsPerSlot=8
    ) as running:
        yield running


def versions_of(server: Server) -> list[Path]:
    return [path for path in (server.store_dir / ".hmacfs/versions").glob("??/*/*") if path.name.isdigit()]


def test_enable_versioning_lets_a_put_replace_the_file(server: Server) -> None:
    first = put(server, "enable/a.txt", b"first")
    second = put(server, "enable/a.txt", b"second")
    large = put(server, "enable/a.txt", content(300_000))

    fetched = get(server, "enable/a.txt")
    assert [answer.status for answer in (first, second, large)] == [201] * 3
    assert len({answer["ETag"] for answer in (first, second, large)}) == 3
    assert (fetched.body, fetched["ETag"]) == (content(300_000), large["ETag"])
    assert fetched["Cache-Control"] == "no-cache"


def test_without_enable_versioning_it_is_a_conflict(tmp_path: Path) -> None:
    with Server(tmp_path) as plain:
        answers = [put(plain, "a/b.txt", body) for body in (b"first", b"second")]

        assert [answer.status for answer in answers] == [201, 409]
        assert "immutable" in get(plain, "a/b.txt")["Cache-Control"]


def test_an_equal_body_is_201_with_the_same_tag_and_no_version(server: Server) -> None:
    before = len(versions_of(server))
    first, again = (put(server, "equal/a.txt", b"same") for _ in range(2))

    assert (again.status, again["ETag"]) == (201, first["ETag"])
    assert len(versions_of(server)) == before


def test_the_figures_of_the_store_are_those_of_the_disk_whatever_is_replaced(tmp_path: Path) -> None:
    deleted = "delete-secret-0123456789abcdef"
    with Server(tmp_path, EnableVersioning=True, MaxVersions=2, DeleteSecret=deleted, NumCores=2) as busy:
        for body in (b"a" * 1000, b"a" * 1000, *(b"%d" % number * 500 for number in range(4))):
            assert put(busy, "a/b.txt", body).status == 201
        until(lambda: figures_of(busy) == on_disk(busy), "the figures are right")

        token = mac(busy.secret, f"a/b.txt\0{deleted}".encode())
        assert send(busy, "DELETE", f"/upload/a/b.txt?token={token}").status == 204
        until(lambda: figures_of(busy) == (0, 0), "nothing is left")


def figures_of(server: Server) -> tuple[float, float]:
    """Files and bytes of the store, as the metrics tell them."""
    told = scrape(server)
    return told.value("hmac_file_server_store_files"), told.value("hmac_file_server_store_bytes")


def on_disk(server: Server) -> tuple[int, int]:
    """The same, as they are."""
    found = [path for path in server.store_dir.rglob("*") if path.is_file()]
    ours = [path for path in found if ".hmacfs" not in path.parts or path.name.isdigit()]
    return len(ours), sum(path.stat().st_size for path in ours)


def test_max_versions_bounds_what_is_kept(server: Server) -> None:
    before = len(versions_of(server))

    for number in range(8):
        assert put(server, "most/a.txt", b"content %d" % number).status == 201

    assert len(versions_of(server)) == before + 3


def test_versions_per_day_is_429_with_retry_after(tmp_path: Path) -> None:
    with Server(tmp_path, EnableVersioning=True, VersionsPerDay=2) as few:
        for body in (b"one", b"two", b"three"):
            assert put(few, "a/b.txt", body).status == 201

        refused = put(few, "a/b.txt", b"fourth")
        large = put(few, "a/b.txt", bytes(200_000))
        again = put(few, "a/b.txt", b"three")

        assert [(answer.status, answer.code) for answer in (refused, large)] == [(429, "too-many-versions")] * 2
        assert 86_000 < int(refused["Retry-After"]) <= 86_400
        assert again.status == 201
        assert put(few, "a/other.txt", b"another path").status == 201
        assert get(few, "a/b.txt").body == b"three"


def test_if_match_with_the_current_tag_replaces_and_any_other_is_412(server: Server) -> None:
    first = put(server, "match/a.txt", b"first")

    wrong = put(server, "match/a.txt", b"second", headers=[("If-Match", '"another"')])
    right = put(server, "match/a.txt", b"second", headers=[("If-Match", first["ETag"])])
    late = put(server, "match/a.txt", b"third", headers=[("If-Match", first["ETag"])])
    absent = put(server, "match/b.txt", b"first", headers=[("If-Match", "*")])
    taken = put(server, "match/a.txt", b"third", headers=[("If-None-Match", "*")])

    assert [answer.status for answer in (wrong, right, late, absent, taken)] == [412, 201, 412, 412, 412]
    assert get(server, "match/a.txt").body == b"second"


def test_a_resumed_upload_over_an_existing_path_replaces_it(server: Server) -> None:
    put(server, "resume/a.txt", content(500))
    slot, token = Slot(server, "resume/a.txt", 1000), fresh_token()

    assert (slot.ask(token).status, slot.ask(token)["Upload-Offset"]) == (202, "0")
    first = slot.piece(0, content(1000)[:600], token)
    last = slot.piece(600, content(1000)[600:], token)

    assert [first.status, last.status] == [202, 201]
    assert get(server, "resume/a.txt").body == content(1000)
    assert slot.ask(token).status == 201


def test_two_workers_and_eight_clients_replace_one_path_and_readers_see_whole_files(server: Server) -> None:
    bodies = [bytes((number,)) * (70_000 + 1000 * number) for number in range(8)]
    put(server, "race/a.bin", bodies[0])
    statuses: list[int] = []
    read: list[bytes] = []

    def replace(number: int) -> None:
        for turn in range(5):
            statuses.append(put(server, "race/a.bin", bodies[(number + turn) % 8]).status)
            read.append(get(server, "race/a.bin").body)

    threads = [threading.Thread(target=replace, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert statuses == [201] * 40
    assert set(read) <= set(bodies)
    assert get(server, "race/a.bin").body in bodies


@pytest.mark.parametrize("query", ["versions", "version=1", "versions&v3=00", "version=1&v2=" + "0" * 64])
def test_nobody_sees_old_versions_without_a_signature(server: Server, query: str) -> None:
    put(server, "hidden/a.txt", b"first")
    put(server, "hidden/a.txt", b"second")

    for path in ("hidden/a.txt", "hidden/none.txt"):
        refused = send(server, "GET", f"{url_of(server, path)}?{query}")

        assert (refused.status, refused.code) == (403, "bad-signature")


def test_old_versions_survive_a_restart_and_a_killed_server_leaves_nothing_staged(tmp_path: Path) -> None:
    with Server(tmp_path, EnableVersioning=True) as server:
        for body in (b"first", b"second"):
            put(server, "a/b.txt", body)
        server.signal_group(9)
        server.wait()
        server.start()

        assert get(server, "a/b.txt").body == b"second"
        assert [path.read_bytes() for path in versions_of(server)] == [b"first"]
        assert list((server.store_dir / ".hmacfs/staging").iterdir()) == []
