"""Bans in Redis: every verb is one script, and every key has a lifetime that reading renews."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any, Protocol

from hmacfs.core import bans as rules
from hmacfs.core.bans import Ban
from hmacfs.state.base import BanBook
from hmacfs.state.batches import parts

_LIFE_SECONDS = 90 * 24 * 3600
"""Of everything, since it was last read or written: even of a ban that ends with an operator's word only."""


class Call(Protocol):
    def __call__(self, name: str, keys: list[str], args: list[Any], /) -> Any:
        """One script's answer. Raises StateUnavailable."""


class RedisBans:
    """Args:
    prefix: of every key.
    call: runs a script.
    """

    def __init__(self, prefix: str, call: Call) -> None:
        self._call = call
        self._fails = f"{prefix}fails:"
        self._keys = [f"{prefix}bans", f"{prefix}bans-ends", f"{prefix}bans-marks"]

    def count(self, fails: Mapping[str, int], now: float) -> dict[str, int]:
        fixed = [self._fails, rules.slice_of(now), rules.last_expired_slice(now), rules.WINDOW_SECONDS]
        pairs = [value for pair in fails.items() for value in pair]
        found = self._call("count_fails", self._keys[:1], [now, *fixed, *pairs]) if pairs else []
        return {address: int(count) for address, count in zip(fails, found, strict=True)}

    def save(self, bans: Sequence[Ban]) -> set[str]:
        begun: set[str] = set()
        for part in parts(bans):
            rows = [value for ban in part for value in (ban.address, ban.forgotten_at, json.dumps(astuple(ban)))]
            fixed = [self._fails, rules.MOST_BANS, _LIFE_SECONDS, _fresh()]
            begun |= {address.decode() for address in self._call("save_bans", self._keys, [*fixed, *rows])}
        return begun

    def read(self, known: str) -> BanBook:
        book, mark, texts = self._call("read_bans", self._keys, [known, _fresh(), _LIFE_SECONDS])
        bans = None if mark == known else [Ban(*json.loads(text)) for text in texts]
        return BanBook(book, mark, bans)

    def agree(self, fingerprint: str) -> bool:
        return bool(self._call("agree_bans", self._keys, [fingerprint, _fresh(), _LIFE_SECONDS]))


def _fresh() -> str:
    return secrets.token_hex(8)
