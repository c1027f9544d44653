"""RequestRateLimit on real servers: 429 in its place, for all workers together where there is Redis."""

from pathlib import Path

from tests.support.http import Connection, head_of, put, request, url_of
from tests.support.polling import until
from tests.support.redis import PASSWORD, RedisServer
from tests.support.server import Server
from tests.support.slot import TUS, Slot, draft_location, face, tus_location

LIMITED = (429, "too-many-requests")


def test_request_rate_limit(tmp_path: Path) -> None:
    with RedisServer() as redis:
        address = f"redis://:{PASSWORD}@127.0.0.1:{redis.port}/0"
        with Server(tmp_path, NumCores=2, RedisAddr=address, RequestRateLimit="20/hour") as server:
            until(lambda: len(server.lines("redis serves")) == 2, "both workers count in Redis")

            statuses = [put(server, f"{number}", b"x").status for number in range(25)]

            assert statuses == [201] * 20 + [429] * 5, "of both workers together, and nothing else counted"
            with Connection(server.address) as connection:
                connection.send(head_of("GET", url_of(server, "1")))
                refused = connection.read_answer()
            assert face(refused) == LIMITED
            assert 0 < int(refused["Retry-After"]) <= 3600
            assert face(request(server, "GET", f"{url_of(server, '1')}?v2=%zz")) == (400, "bad-query"), (
                "the query comes first"
            )
            assert face(put(server, "1", b"x"))[0] == 409, "it exists comes first"
            assert face(Slot(server, "new", 0).unsigned.put()) == (403, "bad-signature"), "and the signature"
            with Connection(server.address) as connection:
                connection.send(head_of("OPTIONS", url_of(server, "1")))
                assert connection.read_answer().status == 204

            redis.kill()
            faces = {face(put(server, f"without {number}", b"x")) for number in range(30)}
            assert faces == {(201, None), LIMITED}, "each worker counts its part, and nothing breaks"


def test_asking_how_far_an_upload_is_counts_for_nothing_and_its_creation_and_pieces_do(tmp_path: Path) -> None:
    with Server(tmp_path, RequestRateLimit="3/hour") as server:
        slot = Slot(server, "session", 10)
        tus, draft = tus_location(Slot(server, "tus", 10)), draft_location(Slot(server, "draft", 10))
        token = slot.piece(0, b"12345")["X-Session-Token"]

        assert face(put(server, "more", b"x")) == LIMITED
        for _ in range(5):
            assert slot.ask(token).status == 202
            assert request(server, "HEAD", tus, [TUS]).status == 200
            assert request(server, "HEAD", draft).status == 204
        assert request(server, "DELETE", tus, [TUS]).status == 204
        assert face(slot.piece(5, b"67890", token)) == LIMITED
