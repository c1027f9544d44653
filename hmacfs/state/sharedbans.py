"""Bans in whichever tier serves: each verb goes to the first that answers, and a lift to those below it too."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from hmacfs.core.bans import Ban
from hmacfs.state.base import BanBook, BanStore

T = TypeVar("T")


class Ask(Protocol):
    def __call__(self, verb: Callable[[BanStore], T], /) -> T:
        """The verb's answer from the tier that serves. Raises StateUnavailable."""


class AskBelow(Protocol):
    def __call__(self, verb: Callable[[BanStore], T], /) -> list[T]:
        """The verb's answers from the tiers below the one that serves; those that do not answer are left out."""


class SharedBans:
    """Args: ask: asks the tier that serves. ask_below: those below it."""

    def __init__(self, ask: Ask, ask_below: AskBelow) -> None:
        self._ask = ask
        self._ask_below = ask_below

    def count(self, fails: Mapping[str, int], now: float) -> dict[str, int]:
        return self._ask(lambda bans: bans.count(fails, now))

    def save(self, bans: Sequence[Ban]) -> set[str]:
        return self._ask(lambda kept: kept.save(bans))

    def lift(self, lifts: Sequence[Ban]) -> None:
        self.save(lifts)
        self._ask_below(lambda kept: kept.save(lifts))

    def lifts_below(self) -> list[Ban]:
        books = self._ask_below(lambda bans: bans.read("").bans or [])
        return [ban for book in books for ban in book if ban.is_lift]

    def read(self, known: str) -> BanBook:
        return self._ask(lambda bans: bans.read(known))

    def agree(self, fingerprint: str) -> bool:
        return self._ask(lambda bans: bans.agree(fingerprint))
