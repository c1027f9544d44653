"""UserQuota: reserved before the body, stored with the file, given back on every other way out."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hmacfs.core import quota
from hmacfs.core.retry import Schedule
from hmacfs.errors import (
    BodyTimeout,
    ChecksumMismatch,
    FileExists,
    QuotaExceeded,
    StateUnavailable,
    StorageFailed,
    StorageFull,
    TooManyUploads,
    Truncated,
    TypeRefused,
    UploadComplete,
)
from hmacfs.services import quotas as module
from hmacfs.services import uploads
from hmacfs.services.quotas import (
    COUNT_SECONDS,
    FRESH_SECONDS,
    LEASE_SECONDS,
    RENEW_SECONDS,
    SHARED_SECONDS,
    QuotaRules,
    Quotas,
    UserQuotas,
)
from hmacfs.services.recorder import Recorder
from hmacfs.state.base import Accounts, FileRow, Reservation
from hmacfs.state.memory import MemoryTier
from hmacfs.storage.base import Standing
from tests.services import resuming, uploading
from tests.services.resuming import piece_sum, whole_sum
from tests.services.test_policy import NO_PROGRAMS, PROGRAM
from tests.services.uploading import ScriptedBody, Silence, request
from tests.support import specimens
from tests.support.polling import until
from tests.support.resuming import TTL, content_of, slot

PATH = "romeo/x1/a.bin"
PATH_SLOT = slot(PATH)
VERBS = {name for name in vars(Accounts) if not name.startswith("_")} | {"stored_bytes"}


class Tier(MemoryTier):
    """Notes what it is asked of accounts, and fails as long as it is told to.

    Attributes:
        down: verbs that raise.
        during: called while a renewal is on its way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.down: set[str] = set()
        self.during: Callable[[], object] = lambda: None

    def __getattribute__(self, name: str) -> Any:
        if name in VERBS:
            self.asked.append(name)
            if name in self.down:
                raise StateUnavailable
        return super().__getattribute__(name)

    def renew(self, reservations: Any, now: int) -> None:
        self.during()
        super().renew(reservations, now)


class Desk:
    """Quotas over a tier in memory, with a clock that somebody moves."""

    def __init__(self, most: int = 100, **rules: Any) -> None:
        self.now = 1_000_000.0
        self.tier = Tier()
        self.recorder = Recorder(self.tier, Schedule(0, 0), lambda: 0.0, lambda _: None)
        self.partials: dict[str, list[Standing]] = {}
        self.rules = QuotaRules(most, **{"by_first_segment": True, "session_ttl": 5000.0, **rules})
        self.quotas = self.another()

    def another(self) -> UserQuotas:
        """Those of another process."""
        of = lambda path: self.partials.get(path.raw.decode(), [])  # noqa: E731
        return UserQuotas(self.tier, self.recorder, self.rules, lambda: self.now, of)

    def held(self, path: str, total: int, **more: Any) -> Any:
        return self.quotas.held(slot(path), total, "", **more)

    def publish(self, path: str, total: int) -> None:
        """An upload from its beginning to its end."""
        with self.held(path, total):
            pass
        self.recorder.file_stored(FileRow(path, total, "", "", self.quotas.uploader(slot(path), ""), 0, 0))
        self.quotas.settle(slot(path), total, "")

    def refuses(self, path: str, total: int) -> bool:
        """Tries it, and gives it back."""
        try:
            with self.held(path, total):
                raise ZeroDivisionError
        except QuotaExceeded:
            return True
        except ZeroDivisionError:
            self.recorder.flush()
            return False

    def count(self, stored: int) -> None:
        """Let the tier believe this."""
        account, now = quota.account_of("romeo"), int(self.now)
        assert self.tier.count(account, stored, self.tier.begin_count(account, now), now, now + COUNT_SECONDS)

    @property
    def used(self) -> int | None:
        self.recorder.flush()
        used = self.tier.used(quota.account_of("romeo"), int(self.now))
        self.tier.asked.pop()
        return used


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- the decision ---


def test_an_upload_within_the_quota_is_one_round_trip(desk: Desk) -> None:
    desk.publish("romeo/1/a", 10)
    desk.recorder.flush()
    desk.tier.asked.clear()

    with desk.held("romeo/2/a", 90):
        assert desk.tier.asked == ["reserve"]


def test_what_would_go_beyond_the_quota_is_refused_with_507(desk: Desk) -> None:
    desk.publish("romeo/1/a", 60)

    with pytest.raises(QuotaExceeded) as caught, desk.held("romeo/2/a", 41):
        pass

    assert (caught.value.status, caught.value.code) == (507, "quota-exceeded")
    assert not desk.refuses("romeo/2/a", 40)
    assert not desk.refuses("juliet/2/a", 100)


def test_a_file_larger_than_the_quota_is_refused_without_asking(desk: Desk) -> None:
    assert desk.refuses("romeo/1/a", 101)
    assert desk.tier.asked == []


def test_uploads_on_their_way_count(desk: Desk) -> None:
    with desk.held("romeo/1/a", 60):
        assert desk.refuses("romeo/2/a", 41)
        with desk.held("romeo/3/a", 40):
            assert desk.used == 100
    assert desk.used == 100  # published, as far as anybody knows; the recorder will say so


def test_an_upload_of_nobody_in_particular_has_no_quota(desk: Desk) -> None:
    with desk.held("romeo/a", 1000), desk.held("a", 1000):
        assert desk.tier.asked == []
    desk.quotas.settle(slot("a"), 1000, "")
    desk.quotas.give_back(slot("a"), 1000, "")
    assert desk.recorder.queued == 0


def test_whom_the_signature_names_is_who_pays(desk: Desk) -> None:
    desk = Desk(by_first_segment=False)
    with desk.quotas.held(slot(PATH), 100, "juliet@example.org"):
        pass

    with pytest.raises(QuotaExceeded), desk.quotas.held(slot("x/y"), 1, "juliet@example.org"):
        pass
    with desk.quotas.held(slot(PATH), 100, ""):
        pass


def test_two_requests_for_one_slot_are_counted_once(desk: Desk) -> None:
    with desk.held(PATH, 60), desk.held(PATH, 60):
        assert desk.used == 60


def test_a_retry_after_a_broken_upload_needs_no_more_room(desk: Desk) -> None:
    desk.partials[PATH] = [Standing(100, "")]  # what arrived is kept
    with pytest.raises(Truncated), desk.held(PATH, 100, resumable=True):
        raise Truncated

    with desk.held(PATH, 100):
        assert desk.used == 100


# --- what becomes of the bytes ---


@pytest.mark.parametrize("error", [Truncated, BodyTimeout, ZeroDivisionError, KeyboardInterrupt])
def test_bytes_are_given_back_on_every_way_out(desk: Desk, error: type[BaseException]) -> None:
    with pytest.raises(error), desk.held(PATH, 100):
        raise error

    assert desk.used == 0
    assert desk.quotas._held == {}


def test_bytes_that_another_request_published_are_left_to_its_settling(desk: Desk) -> None:
    with pytest.raises(UploadComplete), desk.held(PATH, 100):
        raise UploadComplete

    assert desk.used == 100


def test_giving_back_waits_for_no_tier(desk: Desk) -> None:
    holding = desk.held(PATH, 100)
    holding.__enter__()
    desk.tier.asked.clear()

    assert not holding.__exit__(Truncated, Truncated(), None)

    assert desk.tier.asked == []
    assert desk.recorder.queued == 1


def test_a_late_giving_back_takes_nothing_from_the_next_request(desk: Desk) -> None:
    with pytest.raises(Truncated), desk.held(PATH, 100):
        raise Truncated  # left to the recorder, which takes its time

    with desk.held(PATH, 100):
        assert desk.used == 100


@pytest.mark.parametrize("resumable", [False, True])
def test_a_request_that_fails_takes_nothing_from_another_of_its_slot_that_is_at_work(
    desk: Desk, resumable: bool
) -> None:
    other = desk.another()
    with desk.held(PATH, 100):
        with pytest.raises(Truncated), other.held(slot(PATH), 100, "", resumable=resumable):
            raise Truncated

        assert desk.used == 100
        assert desk.refuses("romeo/x2/b.bin", 1)
        desk.now += RENEW_SECONDS
        desk.quotas.renew()
        desk.now += SHARED_SECONDS
        assert desk.used == 100


def test_what_failed_requests_of_one_slot_shared_is_free_soon(desk: Desk) -> None:
    other = desk.another()
    with pytest.raises(Truncated), desk.held(PATH, 100), other.held(slot(PATH), 100, ""):
        raise Truncated

    assert desk.used == 100
    desk.now += SHARED_SECONDS
    assert desk.used == 0


def test_what_is_kept_of_an_upload_stays_reserved_as_long_as_it_is_kept(desk: Desk) -> None:
    desk.partials[PATH] = [Standing(100, "")]
    with pytest.raises(Truncated), desk.held(PATH, 100, resumable=True):
        raise Truncated

    desk.now += 800  # the count must hold still
    assert desk.used == 100
    desk.partials.clear()
    desk.quotas.give_back(slot(PATH), 100, "")
    assert desk.used == 0


def test_a_published_file_counts_as_stored_and_no_longer_as_reserved(desk: Desk) -> None:
    desk.publish(PATH, 60)

    assert desk.used == 60
    desk.now += LEASE_SECONDS
    assert desk.used == 60
    assert desk.tier.stored_bytes("romeo") == 60


def test_between_publishing_and_recording_the_bytes_are_not_lost(desk: Desk) -> None:
    desk.publish(PATH, 60)  # the recorder has not written yet

    assert desk.refuses("romeo/2/a", 41)


def test_a_killed_process_holds_its_bytes_for_five_minutes(desk: Desk) -> None:
    desk.quotas.held(PATH_SLOT, 100, "").__enter__()  # and no end of it

    desk.now += LEASE_SECONDS - 1
    assert desk.refuses("romeo/2/a", 1)
    desk.now += 1
    assert not desk.refuses("romeo/2/a", 1)


def test_a_deleted_file_makes_room_within_seconds(desk: Desk) -> None:
    desk.publish("romeo/1/a", 60)
    desk.publish("romeo/2/a", 40)
    desk.recorder.flush()
    desk.now += FRESH_SECONDS
    assert desk.refuses("romeo/3/a", 40)

    desk.recorder.file_gone("romeo/2/a")  # by whoever deletes or expires files
    desk.recorder.flush()
    assert desk.refuses("romeo/3/a", 40)
    desk.now += FRESH_SECONDS

    assert not desk.refuses("romeo/3/a", 40)
    assert desk.used == 60


def test_a_full_quota_does_not_ask_the_catalogue_each_time(desk: Desk) -> None:
    desk.publish("romeo/1/a", 100)
    desk.recorder.flush()
    desk.tier.asked.clear()

    assert all(desk.refuses(f"romeo/{number}/b", 1) for number in range(50))

    assert desk.tier.asked.count("stored_bytes") == 0
    desk.now += FRESH_SECONDS
    assert all(desk.refuses(f"romeo/{number}/b", 1) for number in range(50))
    assert desk.tier.asked.count("stored_bytes") == 1


def test_files_from_before_are_counted_when_somebody_uploads(desk: Desk) -> None:
    desk.tier.record_files([FileRow("romeo/0/a", 70, "", "", "romeo", 0, 0)])

    assert desk.refuses("romeo/1/a", 31)
    assert desk.used == 70


def test_a_wrong_count_heals_when_its_time_is_over(desk: Desk) -> None:
    desk.publish("romeo/1/a", 60)
    desk.recorder.flush()
    desk.count(0)
    assert not desk.refuses("romeo/2/a", 41)

    desk.now += COUNT_SECONDS

    assert desk.refuses("romeo/2/a", 41)


def test_a_file_that_is_stored_while_somebody_counts_is_not_overlooked(desk: Desk) -> None:
    desk.publish("romeo/1/a", 60)
    another = Recorder(desk.tier, Schedule(0, 0), lambda: 0.0, lambda _: None)
    later = [desk.recorder.flush]  # of another worker, right after the catalogue was asked

    def stored_bytes(uploader: str) -> int:
        stored = MemoryTier.stored_bytes(desk.tier, uploader)
        if later:
            later.pop()()
        return stored

    desk.tier.stored_bytes = stored_bytes  # type: ignore[method-assign]
    desk.quotas._recorder = another
    desk.tier.forget_counts()

    assert desk.refuses("romeo/2/a", 41)
    assert desk.used == 60


def test_a_clock_that_was_set_back_does_not_keep_an_old_count(desk: Desk) -> None:
    desk.publish("romeo/1/a", 100)
    assert desk.refuses("romeo/2/a", 1)
    desk.recorder.flush()
    desk.tier.forget_files(["romeo/1/a"])

    desk.now -= 1000

    assert not desk.refuses("romeo/2/a", 1)


# --- while state is down ---


@pytest.mark.parametrize("down", [{"reserve"}, {"reserve", "stored_bytes", "count"}])
def test_uploads_are_taken_while_no_tier_answers(desk: Desk, down: set[str]) -> None:
    desk.tier.down = down

    assert not desk.refuses("romeo/1/a", 100)
    assert not desk.refuses("romeo/1/a", 100)
    assert desk.refuses("romeo/1/a", 101)  # this needs nobody's word


def test_uploads_are_taken_while_nobody_can_be_counted(desk: Desk) -> None:
    desk.tier.down = {"stored_bytes"}

    assert not desk.refuses("romeo/1/a", 100)


def test_a_count_that_holds_still_refuses_while_the_catalogue_is_down(desk: Desk) -> None:
    desk.publish("romeo/1/a", 100)
    desk.recorder.flush()
    desk.now += FRESH_SECONDS

    desk.tier.down = {"stored_bytes"}

    assert desk.refuses("romeo/2/a", 1)


# --- renewal ---


def test_a_long_upload_keeps_its_bytes(desk: Desk) -> None:
    with desk.held(PATH, 100):
        for _ in range(5):
            desk.now += LEASE_SECONDS - 1
            desk.quotas.renew()
            desk.count(0)
            assert desk.used == 100
    desk.now += LEASE_SECONDS
    assert desk.used == 0


def test_a_tier_that_lost_everything_is_told_again(desk: Desk) -> None:
    with desk.held(PATH, 100):
        desk.tier._reservations.clear()
        desk.tier.forget_counts()

        desk.quotas.renew()

        assert desk.refuses("romeo/2/a", 1)


@pytest.mark.parametrize("ending", ["published", "broken off"])
def test_a_renewal_brings_nothing_back_that_ends_meanwhile(desk: Desk, ending: str) -> None:
    holding = desk.held(PATH, 60)
    holding.__enter__()

    def end() -> None:
        if ending == "published":
            holding.__exit__(None, None, None)
            desk.recorder.file_stored(FileRow(PATH, 60, "", "", "romeo", 0, 0))
            desk.quotas.settle(PATH_SLOT, 60, "")
        else:
            assert not holding.__exit__(Truncated, Truncated(), None)
        desk.recorder.flush()

    desk.tier.during = end
    desk.quotas.renew()

    assert desk.used == (60 if ending == "published" else 0)


def test_renewals_run_beside_the_requests_until_the_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.01)
    before = threading.active_count()
    desk.tier.down = {"renew"}
    with desk.held(PATH, 100):
        desk.quotas.start()
        desk.quotas.start()
        until(lambda: desk.tier.asked.count("renew") > 2, "it goes on after a failure")
        assert threading.active_count() == before + 1
        desk.quotas.stop()
        until(lambda: threading.active_count() == before, "it ends")


def test_no_quota_asks_and_tells_nobody() -> None:
    free = Quotas()

    with free.held(slot(PATH), 1 << 60, ""), free.held(slot(PATH), 1, "x", resumable=True):
        free.settle(slot(PATH), 1, "")
        free.give_back(slot(PATH), 1, "")
    assert free.uploader(slot(PATH), "juliet") == "juliet"


# --- an upload in one piece ---


@pytest.fixture(params=["small", "large"])
def house(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[uploading.House]:
    built = uploading.House(tmp_path / "plain")
    if request.param == "large":
        monkeypatch.setattr(uploads, "SMALL", -1)
    yield built
    assert built.board.pending() == 0
    built.close()


def with_quota(house: uploading.House, most: int = 100) -> UserQuotas:
    rules = QuotaRules(most, by_first_segment=True)
    return UserQuotas(house.tier, house.recorder, rules, lambda: uploading.WALL)


def used(house: uploading.House) -> int | None:
    house.recorder.flush()
    return house.tier.used(quota.account_of("romeo"), int(uploading.WALL))


def test_a_file_beyond_the_quota_is_refused_before_its_body(house: uploading.House) -> None:
    receiving = house.uploads(quotas=with_quota(house))
    receiving.receive(request(60, path="romeo/1/a"), ScriptedBody(bytes(60)))
    body = ScriptedBody(bytes(41))

    with pytest.raises(QuotaExceeded):
        receiving.receive(request(41, path="romeo/2/a"), body)

    assert body.asked == 0
    assert used(house) == 60
    assert list(house.files()) == ["romeo/1/a"]


def test_the_uploader_stands_in_the_catalogue(house: uploading.House) -> None:
    house.uploads(quotas=with_quota(house)).receive(request(5, path="romeo/1/a"), ScriptedBody(b"hello"))

    house.recorder.flush()
    (row,) = house.tier.list_files("", 10)
    assert row.uploader == "romeo"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (lambda house: house.body(b"hel"), Truncated),
        (lambda house: house.body(b"hel", Silence(1000)), BodyTimeout),
        (lambda house: house.body(b"hel", ZeroDivisionError()), ZeroDivisionError),
        (lambda house: house.body(lambda: house.put("romeo/1/a", b"first"), b"hello"), FileExists),
    ],
    ids=["short", "silent", "broken", "another was faster"],
)
def test_an_upload_that_fails_gives_its_bytes_back(
    house: uploading.House, body: Callable[[uploading.House], ScriptedBody], error: type[Exception]
) -> None:
    with pytest.raises(error):
        house.uploads(quotas=with_quota(house)).receive(request(5, path="romeo/1/a"), body(house))

    assert used(house) == 0


def test_refused_content_gives_its_bytes_back(house: uploading.House) -> None:
    receiving = house.uploads(quotas=with_quota(house, 1000), policy=NO_PROGRAMS)

    with pytest.raises(TypeRefused):
        receiving.receive(request(500, path="romeo/1/a"), ScriptedBody(PROGRAM))

    assert used(house) == 0


def test_the_quota_comes_after_space_and_after_what_exists(house: uploading.House) -> None:
    house.put("romeo/1/there", b"first")

    with pytest.raises(FileExists):
        house.uploads(quotas=with_quota(house, 1)).receive(request(5, path="romeo/1/there"), ScriptedBody())
    house.admitting(free_space=1 << 62)
    with pytest.raises(StorageFull):
        house.uploads(quotas=with_quota(house, 1)).receive(request(5, path="romeo/1/a"), ScriptedBody())
    house.board.enter_client("192.0.2.1")
    house.admitting(uploads_per_client=1)
    with pytest.raises(TooManyUploads):
        house.uploads(quotas=with_quota(house, 1)).receive(request(5, path="romeo/1/a"), ScriptedBody())
    house.board.leave_client("192.0.2.1")


# --- uploads that go on ---


@pytest.fixture
def pieces(tmp_path: Path) -> Iterator[resuming.House]:
    built = resuming.House(tmp_path / "pieces", quota=150, policy=NO_PROGRAMS)
    yield built
    built.close()


def counted(house: resuming.House) -> int | None:
    house.recorder.flush()
    return house.tier.used(quota.account_of("romeo"), int(time.time()))


def test_a_piece_reserves_the_whole_file(pieces: resuming.House) -> None:
    pieces.piece(0, 10, path=PATH)
    assert counted(pieces) == 100

    with pytest.raises(QuotaExceeded):
        pieces.piece(0, 10, path="romeo/2/b", token="token-of-client-2")
    assert len(pieces.shelf.names()) == 3  # of the first one: its journal, its bytes, its token
    pieces.piece(10, 100, path=PATH)
    assert counted(pieces) == 100
    assert pieces.tier.stored_bytes("romeo") == 100


@pytest.mark.parametrize("face", ["tus", "draft"])
def test_a_creation_reserves_the_whole_file(pieces: resuming.House, face: str) -> None:
    upload_id = pieces.created(face=face, path=PATH)

    with pytest.raises(QuotaExceeded):
        pieces.created(face=face, path="romeo/2/b")
    pieces.append(upload_id, 0, 50)
    assert counted(pieces) == 100
    pieces.append(upload_id, 50, 100)
    assert counted(pieces) == 100
    assert pieces.tier.stored_bytes("romeo") == 100


def test_a_plain_upload_with_a_token_reserves_and_settles(pieces: resuming.House) -> None:
    pieces.whole(path=PATH)

    assert counted(pieces) == 100
    with pytest.raises(QuotaExceeded):
        pieces.whole(path="romeo/2/b", token="token-of-client-2")


def test_a_broken_upload_keeps_its_bytes_while_it_can_be_continued(pieces: resuming.House) -> None:
    with pytest.raises(Truncated):
        pieces.whole(path=PATH, body=pieces.body(content_of(100)[:30]))
    assert counted(pieces) == 100

    done = pieces.piece(30, 100, path=PATH)

    assert done.is_complete
    assert counted(pieces) == 100


def test_a_broken_upload_of_which_nothing_arrived_gives_its_bytes_back(pieces: resuming.House) -> None:
    with pytest.raises(Truncated):
        pieces.whole(path=PATH, body=pieces.body())

    assert counted(pieces) == 0


def test_a_terminated_upload_gives_its_bytes_back(pieces: resuming.House) -> None:
    upload_id = pieces.created(path=PATH)
    pieces.append(upload_id, 0, 50)

    pieces.resumable.terminate(upload_id)

    assert counted(pieces) == 0


@pytest.mark.parametrize(("sizes", "both", "one"), [((100, 100), 100, 100), ((40, 90), 130, 90)])
def test_a_terminated_upload_gives_back_what_no_other_of_its_slot_and_size_needs(
    pieces: resuming.House, sizes: tuple[int, int], both: int, one: int
) -> None:
    first, second = (pieces.created(size, path=PATH) for size in sizes)
    assert counted(pieces) == both

    pieces.resumable.terminate(first)
    assert counted(pieces) == one
    pieces.resumable.terminate(second)
    assert counted(pieces) == 0


def test_a_published_file_gives_back_what_uploads_of_other_sizes_to_its_slot_had_reserved(
    pieces: resuming.House,
) -> None:
    pieces.piece(0, 1, path=PATH)
    pieces.created(40, path=PATH)
    assert counted(pieces) == 140

    pieces.uploads.receive(resuming.request(5, "", path=PATH), pieces.body(b"hello"))

    assert counted(pieces) == 5


def test_a_file_that_was_completed_in_pieces_gives_back_what_the_others_of_its_slot_had_reserved(
    pieces: resuming.House,
) -> None:
    pieces.created(40, path=PATH)

    pieces.piece(0, 100, path=PATH)

    assert counted(pieces) == 100
    assert pieces.tier.stored_bytes("romeo") == 100


def test_what_was_published_is_never_free_before_it_counts_as_stored(pieces: resuming.House) -> None:
    pieces.created(path=PATH)
    settled: list[Reservation] = []
    pieces.recorder.quota_settled = settled.append  # type: ignore[method-assign]

    pieces.piece(0, 100, path=PATH)  # and the other one of this size goes

    account, now = quota.account_of("romeo"), int(time.time())
    assert counted(pieces) == 100
    pieces.tier.settle(settled)
    assert pieces.tier.used(account, now) == 100


def test_an_upload_that_makes_room_for_another_one_gives_its_bytes_back(pieces: resuming.House) -> None:
    for total in (10, 20, 30, 40):
        pieces.created(total, path=PATH)

    assert len(pieces.shelf.partials.standing(PATH_SLOT)) == 3
    assert counted(pieces) == sum(each.total for each in pieces.shelf.partials.standing(PATH_SLOT))


def test_an_upload_that_a_sweep_finds_expired_gives_its_bytes_back(pieces: resuming.House) -> None:
    pieces.created(40, path=PATH)
    pieces.piece(0, 10, path=PATH)
    assert counted(pieces) == 140
    pieces.shelf.partials._clock = lambda: time.time() + TTL + 1

    pieces.shelf.partials.sweep()

    assert counted(pieces) == 0


def test_a_deleted_file_gives_back_what_uploads_to_its_slot_had_reserved(tmp_path: Path) -> None:
    house = resuming.House(tmp_path / "store", quota=150, versions={})
    house.uploads.receive(resuming.request(60, "", path=PATH), house.body(content_of(60)))
    house.created(100, path=PATH)
    assert counted(house) == 100

    house.shelf.storage.delete(PATH_SLOT)

    assert counted(house) == 60  # as the catalogue says until it hears of the deletion
    house.close()


def test_an_upload_that_is_removed_leaves_the_bytes_of_one_in_one_piece_that_is_at_work(
    pieces: resuming.House,
) -> None:
    upload_id = pieces.created(path=PATH)

    with pieces.quotas.held(PATH_SLOT, 100, ""):
        pieces.resumable.terminate(upload_id)

        assert counted(pieces) == 100


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda house: house.piece(0, 100, path=PATH, wanted=whole_sum(b"other")), ChecksumMismatch),
        (lambda house: house.piece(0, 100, path=PATH, body=house.body(specimens.HTML.ljust(100))), TypeRefused),
        (lambda house: house.whole(path=PATH, wanted=piece_sum(b"other")), ChecksumMismatch),
    ],
)
def test_an_upload_that_is_removed_gives_its_bytes_back(
    pieces: resuming.House, spoil: Callable[[resuming.House], Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        spoil(pieces)

    assert counted(pieces) == 0
    assert not pieces.is_stored(PATH)


def test_an_upload_whose_path_was_taken_gives_its_bytes_back(pieces: resuming.House) -> None:
    upload_id = pieces.created(path=PATH)
    (pieces.store / PATH).parent.mkdir(parents=True)
    (pieces.store / PATH).write_bytes(b"first")

    with pytest.raises(FileExists):
        pieces.append(upload_id, 0, 100)

    assert counted(pieces) == 0


def test_a_refused_creation_gives_nothing_back_that_is_not_its_own(pieces: resuming.House) -> None:
    pieces.piece(0, 10, path=PATH)

    with pytest.raises(QuotaExceeded):
        pieces.created(path="romeo/2/b")

    assert counted(pieces) == 100


def test_an_upload_that_expires_gives_its_bytes_back_by_itself(tmp_path: Path) -> None:
    house = resuming.House(tmp_path / "store", quota=150)
    house.piece(0, 10, path=PATH)
    account = quota.account_of("romeo")
    house.recorder.flush()
    (held,) = house.tier._reservations.values()

    assert TTL - 10 <= held.expires_at - time.time() <= TTL
    house.tier.count(account, 0, 0, 0, held.expires_at + 1)
    assert house.tier.used(account, held.expires_at) == 0
    house.close()


def test_a_failing_disk_leaves_the_reservation_to_its_expiry(desk: Desk) -> None:
    def fail(_path: object) -> list[Standing]:
        raise StorageFailed("EIO")

    desk.quotas._standing_of = fail
    with pytest.raises(Truncated), desk.held(PATH, 100):
        raise Truncated

    assert desk.used == 100
    desk.now += LEASE_SECONDS
    assert desk.used == 0


def test_an_upload_without_a_quota_asks_no_tier_about_accounts(house: uploading.House) -> None:
    house.tier.threads.clear()

    house.uploads().receive(request(5, path=PATH), ScriptedBody(b"hello"))

    assert house.tier.threads == []


# --- replacing a file ---


@pytest.fixture
def replacing(tmp_path: Path) -> Iterator[resuming.House]:
    """Files may be replaced, and everybody may have 100 bytes."""
    built = resuming.House(tmp_path / "store", quota=100, versions={})
    built.uploads.receive(resuming.request(60, "", path=PATH), built.body(content_of(60)))
    yield built
    built.close()


@pytest.mark.parametrize("total", [1, 59, 60, 61, 100])
def test_a_file_that_is_replaced_makes_room_for_the_new_one(replacing: resuming.House, total: int) -> None:
    replacing.uploads.receive(resuming.request(total, "", path=PATH), replacing.body(b"x" * total))

    replacing.recorder.flush()
    replacing.tier.forget_counts()
    with pytest.raises(QuotaExceeded):
        replacing.uploads.receive(resuming.request(101 - total, "", path="romeo/x2/a"), replacing.body())
    assert replacing.tier.used(quota.account_of("romeo"), int(time.time())) == total


@pytest.mark.parametrize("content", [content_of(60), b"y" * 60], ids=["equal", "other"])
def test_a_file_may_be_replaced_again_and_again_where_that_needs_no_room(
    replacing: resuming.House, content: bytes
) -> None:
    for _ in range(5):
        replacing.uploads.receive(resuming.request(60, "", path=PATH), replacing.body(content))
        replacing.piece(0, 60, total=60, token="", path=PATH, body=replacing.body(content[::-1]))

    replacing.recorder.flush()
    assert replacing.tier.used(quota.account_of("romeo"), int(time.time())) == 60


def test_what_a_replacement_needs_beyond_the_old_file_must_fit(replacing: resuming.House) -> None:
    body = replacing.body(bytes(101))

    with pytest.raises(QuotaExceeded):
        replacing.uploads.receive(resuming.request(101, "", path=PATH), body)
    replacing.uploads.receive(resuming.request(20, "", path="romeo/x2/a"), replacing.body(content_of(20)))
    with pytest.raises(QuotaExceeded):
        replacing.uploads.receive(resuming.request(81, "", path=PATH), replacing.body())

    assert body.asked == 0


def test_a_replacement_that_fails_gives_back_what_it_needed_more(replacing: resuming.House) -> None:
    with pytest.raises(Truncated):
        replacing.uploads.receive(resuming.request(90, "", path=PATH), replacing.body(b"z"))

    replacing.recorder.flush()
    assert replacing.tier.used(quota.account_of("romeo"), int(time.time())) == 60


def test_a_file_of_somebody_else_makes_no_room(tmp_path: Path) -> None:
    house = resuming.House(tmp_path / "store", versions={})
    house.uploads.receive(resuming.request(60, "", path="a/b"), house.body(content_of(60)))
    quotas = UserQuotas(house.tier, house.recorder, QuotaRules(100), time.time, None, house.shelf.storage)

    with quotas.held(slot("a/b"), 60, "juliet"):
        used = house.tier.used(quota.account_of("juliet"), int(time.time()))

    assert used == 60
    house.close()


def test_eight_uploads_at_once_never_go_beyond_the_quota(tmp_path: Path) -> None:
    house = uploading.House(tmp_path / "store")
    quotas = UserQuotas(house.tier, house.recorder, QuotaRules(100, by_first_segment=True), time.time)
    receiving = house.uploads(quotas=quotas)
    results: list[bool] = []

    def upload(number: int) -> None:
        try:
            receiving.receive(request(30, path=f"romeo/{number}/a"), ScriptedBody(bytes(30)))
        except QuotaExceeded:
            return
        results.append(True)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 3
    assert len(list((house.store / "romeo").rglob("a"))) == 3
    house.close()
