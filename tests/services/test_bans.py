"""One worker's bans: counted and looked up in memory, shared behind the answers, and right when tiers change."""

import copy
from collections.abc import Callable, Mapping, Sequence

import pytest

from hmacfs.core import bans as rules
from hmacfs.core.bans import FOREVER, Ban, Rules
from hmacfs.errors import Banned, StateUnavailable
from hmacfs.services import bans as module
from hmacfs.services.bans import MOST_FAILING, BanList
from hmacfs.services.observer import Observer
from hmacfs.state.base import BanBook, BanStore
from hmacfs.state.memorybans import MemoryBans
from hmacfs.state.scoreboard import Scoreboard
from tests.support.polling import until

NOW = 1_800_000_000.0
CLIENT, OTHER, THIRD = "192.0.2.1", "192.0.2.2", "192.0.2.3"
TRUSTED = "192.0.2.99"


class Told(Observer):
    def __init__(self) -> None:
        self.bans: list[tuple[str, int, int]] = []
        self.lifted: list[int] = []
        self.suspicions = 0

    def banned(self, address: str, seconds: int, times: int) -> None:
        self.bans.append((address, seconds, times))

    def bans_lifted(self, count: int) -> None:
        self.lifted.append(count)

    def secret_suspected(self) -> None:
        self.suspicions += 1


class Tiers:
    """Shared state whose tiers come and go.

    Attributes:
        serving: the one that answers; None where none does.
        below: the one below it, if that answers.
    """

    def __init__(self, serving: BanStore | None) -> None:
        self.serving = serving
        self.below: BanStore | None = None

    def _now(self) -> BanStore:
        if self.serving is None:
            raise StateUnavailable("gone")
        return self.serving

    def count(self, fails: Mapping[str, int], now: float) -> dict[str, int]:
        return self._now().count(fails, now)

    def save(self, bans: Sequence[Ban]) -> set[str]:
        return self._now().save(bans)

    def lift(self, lifts: Sequence[Ban]) -> None:
        for store in (self._now(), *([self.below] if self.below else [])):
            store.save(lifts)

    def lifts_below(self) -> list[Ban]:
        self._now()
        return [ban for ban in self.below.read("").bans or () if ban.is_lift] if self.below else []

    def read(self, known: str) -> BanBook:
        return self._now().read(known)

    def agree(self, fingerprint: str) -> bool:
        return self._now().agree(fingerprint)


class House:
    """Workers of one server, at one moment."""

    def __init__(self, count: int = 1, **changed: int | bool) -> None:
        self.now = NOW
        self.fingerprint = "ab" * 32
        self.store = MemoryBans(lambda: self.now)
        self.tiers = Tiers(self.store)
        self.told = Told()
        self.rules = Rules(**({"after_fails": 3, "first": 300, "later": 600} | changed))  # type: ignore[arg-type]
        self.board = Scoreboard(count)
        self.workers = [self.worker() for _ in range(count)]

    def worker(self) -> BanList:
        board = copy.copy(self.board)
        board.bind(board.claim())
        spares: Callable[[str], bool] = TRUSTED.__eq__
        return BanList(self.rules, self.tiers, board, spares, lambda: self.fingerprint, self.told, lambda: self.now)

    def refresh(self) -> None:
        for worker in self.workers:
            worker.refresh()


def lift(store: BanStore, now: float) -> None:
    """All bans, as an operator does."""
    store.save([rules.lifted(ban, int(now)) for ban in store.read("").bans or ()])


def fail(worker: BanList, client: str = CLIENT, times: int = 3) -> None:
    for _ in range(times):
        worker.failed(client)


def is_banned(worker: BanList, client: str = CLIENT) -> bool:
    try:
        worker.check(client)
    except Banned:
        return True
    return False


def test_a_worker_bans_by_itself_without_any_tier() -> None:
    house = House()
    house.tiers.serving = None
    (worker,) = house.workers

    fail(worker, times=2)
    before = is_banned(worker)
    fail(worker, times=1)
    worker.refresh()

    assert not before
    with pytest.raises(Banned) as caught:
        worker.check(CLIENT)
    assert caught.value.retry_after == 300
    assert house.told.bans == [(CLIENT, 300, 1)]


def test_failures_at_two_workers_count_together() -> None:
    house = House(2)
    one, two = house.workers
    house.refresh()

    fail(one, times=2)
    fail(two, times=1)
    house.refresh()
    house.refresh()

    assert is_banned(one)
    assert is_banned(two)


def test_a_ban_of_one_worker_is_known_to_the_other_at_the_next_reading() -> None:
    house = House(2)
    one, two = house.workers
    house.refresh()

    fail(one)
    house.refresh()

    assert is_banned(two)
    assert not is_banned(two, OTHER)


def test_a_ban_ends_and_the_next_is_longer() -> None:
    house = House()
    (worker,) = house.workers
    fail(worker)
    house.refresh()
    house.now += 300

    free = not is_banned(worker)
    fail(worker)
    house.refresh()

    assert free
    assert house.told.bans == [(CLIENT, 300, 1), (CLIENT, 600, 2)]


@pytest.mark.parametrize("apart", [0, 1], ids=lambda seconds: f"{seconds} s apart")
def test_a_ban_that_two_workers_find_at_once_is_told_once(apart: int) -> None:
    house = House(2)
    one, two = house.workers
    house.refresh()

    fail(one)
    house.now += apart
    fail(two)
    house.refresh()
    house.refresh()

    assert house.told.bans == [(CLIENT, 300, 1)]
    assert is_banned(one)
    assert is_banned(two)


def test_a_ban_that_two_workers_find_before_they_read_any_book_is_told_once() -> None:
    house = House(2)

    for worker in house.workers:
        fail(worker)
    house.refresh()
    house.refresh()

    assert house.told.bans == [(CLIENT, 300, 1)]


def test_while_no_tier_answers_each_worker_tells_of_its_ban_and_none_does_again_later() -> None:
    house = House(2)
    house.refresh()
    house.tiers.serving = None

    for worker in house.workers:
        fail(worker)
    house.refresh()
    away = list(house.told.bans)
    house.tiers.serving = house.store
    house.refresh()
    house.refresh()

    assert away == [(CLIENT, 300, 1)] * 2
    assert house.told.bans == away


def test_a_ban_is_told_though_the_tier_fell_silent_behind_keeping_it() -> None:
    house = House()
    house.refresh()
    saving = house.store.save

    def save(bans: Sequence[Ban]) -> set[str]:
        saving(bans)
        raise StateUnavailable("no answer in time")

    house.store.save = save  # type: ignore[method-assign]
    fail(house.workers[0])
    house.refresh()
    house.store.save = saving  # type: ignore[method-assign]
    house.refresh()

    assert house.told.bans == [(CLIENT, 300, 1)]


def test_a_ban_is_told_though_a_fault_of_ours_keeps_it_from_the_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    (worker,) = house.workers
    house.refresh()
    monkeypatch.setattr(house.store, "save", lambda _bans: 1 / 0)

    fail(worker)
    with pytest.raises(ZeroDivisionError):
        worker.refresh()

    assert house.told.bans == [(CLIENT, 300, 1)]


@pytest.mark.parametrize("place", range(3))
def test_what_failed_before_a_ban_counts_at_no_worker_after_it(place: int) -> None:
    house = House(3)
    one, two, three = house.workers
    house.refresh()
    fail(two, times=2)
    house.refresh()
    fail(one, times=1)
    fail(three, times=2)
    one.refresh()  # it learns of the third failure, and tells of the ban
    three.refresh()  # with failures from before the ban, which nobody knows of yet
    house.refresh()
    house.now += 300

    fail(house.workers[place], times=1)
    house.refresh()
    fail(house.workers[place], times=1)
    house.refresh()

    assert house.told.bans == [(CLIENT, 300, 1)]
    assert not any(is_banned(worker) for worker in house.workers)


def test_a_failure_that_was_not_told_of_yet_when_the_ban_was_read_is_not_told_of() -> None:
    house = House(2)
    one, two = house.workers
    house.refresh()
    fail(one)
    one.refresh()
    counting = house.store.count

    def count(fails: Mapping[str, int], now: float) -> dict[str, int]:
        found = counting(fails, now)
        fail(two, times=2)  # while another failure is being told of
        return found

    house.store.count = count  # type: ignore[method-assign]
    fail(two, OTHER, 1)
    two.refresh()
    house.store.count = counting  # type: ignore[method-assign]
    house.now += 300
    two.refresh()

    assert house.store.count({CLIENT: 1}, house.now) == {CLIENT: 1}


def test_an_ipv6_client_is_its_network_and_a_mapped_address_the_ipv4_one() -> None:
    (worker,) = House().workers

    for last in (1, 2, 3):
        worker.failed(f"2001:db8:1:2::{last}")
    fail(worker, f"::ffff:{CLIENT}")

    assert is_banned(worker, "2001:db8:1:2:ffff::1")
    assert not is_banned(worker, "2001:db8:1:3::1")
    assert is_banned(worker, CLIENT)


@pytest.mark.parametrize("client", ["", TRUSTED])
def test_an_empty_or_trusted_address_is_never_banned(client: str) -> None:
    house = House()
    (worker,) = house.workers

    fail(worker, client, 50)
    house.store.save([Ban(client, int(NOW), FOREVER, 1)])
    house.refresh()

    assert not is_banned(worker, client)
    assert house.told.bans == []


def test_zero_never_bans() -> None:
    (worker,) = House(after_fails=0).workers

    fail(worker, times=100)

    assert not is_banned(worker)


def test_a_lifted_ban_is_over_and_its_failures_are_forgotten() -> None:
    house = House(2)
    one, two = house.workers
    house.refresh()
    fail(one)
    fail(two, times=2)  # before it knows of the ban
    house.refresh()

    lift(house.store, house.now)
    house.refresh()
    freed = not is_banned(one) and not is_banned(two)
    fail(two, times=2)

    assert freed
    assert not is_banned(two)


def test_a_new_worker_knows_the_bans_of_before() -> None:
    house = House()
    fail(house.workers[0])
    house.refresh()
    house.refresh()

    late = house.worker()
    late.refresh()

    assert is_banned(late)


def test_bans_move_to_the_tier_that_takes_over_and_back() -> None:
    house = House(2)
    house.refresh()
    fail(house.workers[0])
    house.refresh()
    house.refresh()

    house.tiers.serving = lower = MemoryBans(lambda: house.now)
    house.refresh()
    in_lower = [ban.address for ban in lower.read("").bans or ()]
    fail(house.workers[1], OTHER)
    house.refresh()
    house.tiers.serving = house.store
    house.refresh()
    house.refresh()

    assert in_lower == [CLIENT]
    assert sorted(ban.address for ban in house.store.read("").bans or ()) == [CLIENT, OTHER]
    assert all(is_banned(worker, client) for worker in house.workers for client in (CLIENT, OTHER))


@pytest.mark.parametrize("before", [0, 1, 60], ids=lambda seconds: f"{seconds} s after the ban")
@pytest.mark.parametrize("end", ["stay", "reload", "restart", "unread"])
def test_a_ban_lifted_while_a_tier_was_away_does_not_come_back_with_it(before: int, end: str) -> None:
    house = House(2, first=5000)
    house.refresh()
    fail(house.workers[0])
    house.refresh()
    house.now += before
    house.tiers.serving = lower = MemoryBans(lambda: house.now)
    house.refresh()

    lift(lower, house.now)
    if end == "stay":
        house.refresh()
    if end == "reload":
        house.workers = [house.worker(), house.worker()]
        house.refresh()
    house.tiers.serving, house.tiers.below = house.store, lower
    if end == "restart":
        house.workers = [house.worker(), house.worker()]
    for _ in range(2):
        house.refresh()

    assert not any(is_banned(worker) for worker in house.workers)
    assert not any(ban.is_active(house.now) for ban in house.store.read("").bans or ())


def test_a_lift_below_is_found_though_nobody_saw_the_tier_fail() -> None:
    house = House(first=5000)
    (worker,) = house.workers
    house.tiers.below = lower = MemoryBans(lambda: house.now)
    fail(worker)
    house.refresh()
    house.refresh()

    lower.save([rules.lifted(ban, int(house.now)) for ban in house.store.read("").bans or ()])
    for _ in range(2):
        house.now += module.BELOW_SECONDS
        house.refresh()

    assert not is_banned(worker)


def test_a_ban_behind_a_lift_that_lies_below_stays() -> None:
    house = House(first=5000)
    (worker,) = house.workers
    fail(worker)
    house.refresh()
    lower = MemoryBans(lambda: house.now)
    lower.save([rules.lifted(ban, int(house.now)) for ban in house.store.read("").bans or ()])
    lift(house.store, house.now)
    house.refresh()
    house.now += 10

    fail(worker)
    house.tiers.below = lower
    for _ in range(2):
        house.now += module.BELOW_SECONDS
        house.refresh()

    assert is_banned(worker)
    assert house.told.bans[-1] == (CLIENT, 5000, 1)


def test_a_changed_secret_lifts_all_bans_once() -> None:
    house = House(2)
    house.refresh()
    fail(house.workers[0])
    house.refresh()

    house.fingerprint = "cd" * 32
    house.refresh()
    freed = [not is_banned(worker) for worker in house.workers]
    house.workers[0].succeeded()
    fail(house.workers[0], OTHER)
    house.refresh()
    house.refresh()

    assert freed == [True, True]
    assert house.told.lifted == [1]
    assert is_banned(house.workers[1], OTHER)


def test_a_restart_with_another_secret_lifts_all_bans() -> None:
    house = House()
    house.refresh()
    fail(house.workers[0])
    house.refresh()

    house.fingerprint = "cd" * 32
    late = house.worker()
    late.refresh()

    assert not is_banned(late)
    assert house.store.read("").bans == []


# --- the secret is probably another one ---


def test_where_three_fail_and_none_succeeds_nobody_is_banned_and_that_is_told_once() -> None:
    house = House(3)
    for worker, client in zip(house.workers, (CLIENT, OTHER, THIRD), strict=True):
        fail(worker, client, 1)

    for worker in house.workers:
        for client in (CLIENT, OTHER, THIRD):
            fail(worker, client, 9)
    for _ in range(4):
        house.refresh()

    assert house.told.bans == []
    assert house.told.suspicions == 1


def test_two_that_fail_are_banned_as_ever() -> None:
    house = House()

    fail(house.workers[0], CLIENT)
    fail(house.workers[0], OTHER)
    house.refresh()

    assert [address for address, _, _ in house.told.bans] == [CLIENT, OTHER]
    assert house.told.suspicions == 0


def test_once_anybody_has_succeeded_at_any_worker_bans_are_as_ever() -> None:
    house = House(2)
    one, two = house.workers
    for times in (1, 5):
        for client in (CLIENT, OTHER, THIRD):
            fail(one, client, times)

    two.succeeded()
    fail(one, CLIENT, 1)

    assert [client for client in (CLIENT, OTHER, THIRD) if is_banned(one, client)] == [CLIENT]


def test_what_was_right_before_the_secret_changed_says_nothing_of_the_new_one() -> None:
    house = House()
    (worker,) = house.workers
    worker.succeeded()

    house.fingerprint = "cd" * 32
    house.refresh()
    for client in (CLIENT, OTHER, THIRD):
        fail(worker, client, 1)
    for client in (CLIENT, OTHER, THIRD):
        fail(worker, client, 5)
    house.refresh()

    assert house.told.bans == []


def test_a_worker_that_died_is_not_forgotten() -> None:
    house = House(1)
    house.workers[0].succeeded()
    house.board.release(0)

    late = house.worker()
    for client in (CLIENT, OTHER, THIRD):
        fail(late, client)
    late.refresh()

    assert len(house.told.bans) == 3


# --- bounds ---


def test_what_is_sent_at_once_is_bounded() -> None:
    house = House(after_fails=100)
    (worker,) = house.workers

    for number in range(MOST_FAILING + 50):
        worker.failed(f"10.0.{number // 250}.{number % 250}")

    assert len(worker._unsent) == MOST_FAILING


def test_bans_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_BANS", 5)
    house = House(after_fails=1)
    (worker,) = house.workers
    worker.succeeded()

    for number in range(10):
        worker.failed(f"10.0.0.{number}")

    assert len(worker._bans) == 5


def test_a_ban_is_shared_at_once_and_not_with_the_next_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH_SECONDS", 1000.0)
    house = House(2)
    first, second = house.workers
    first.start()
    until(lambda: bool(first._book), "it has read the book")

    fail(first)
    until(lambda: house.store.read("").bans != [], "the ban is in the book")
    second.refresh()

    assert is_banned(second)
    monkeypatch.setattr(module, "REFRESH_SECONDS", 1.0)
    first.stop()
