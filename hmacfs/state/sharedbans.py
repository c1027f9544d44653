"""Bans in whichever tier serves: each verb goes to the first that answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from hmacfs.core.bans import Ban
from hmacfs.state.base import BanBook, BanStore

T = TypeVar("T")


class Ask(Protocol):
    def __call__(self, verb: Callable[[BanStore], T], /) -> T:
        """The verb's answer from the tier that serves. Raises StateUnavailable."""


class SharedBans:
    """Args: ask: asks the tier that serves."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def count(self, fails: Mapping[str, int], now: float) -> dict[str, int]:
        return self._ask(lambda bans: bans.count(fails, now))

    def save(self, bans: Sequence[Ban]) -> None:
        self._ask(lambda kept: kept.save(bans))

    def lift(self, addresses: Sequence[str]) -> None:
        self._ask(lambda bans: bans.lift(addresses))

    def read(self, known: str) -> BanBook:
        return self._ask(lambda bans: bans.read(known))

    def agree(self, fingerprint: str) -> bool:
        return self._ask(lambda bans: bans.agree(fingerprint))
