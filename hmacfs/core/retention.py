"""How long files live: which age limit counts, when a file's time is over, and why.

Three keys are names for one age limit (FileTTL; DeleteFiles with DeleteFilesAfterPeriod; RetentionPolicyEnabled with
MaxRetentionTime): the shortest that is enabled wins. A file may also carry an end of its own, by its uploader's claim.
The limit on size is the business of ``core.oldest``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hmacfs import units
from hmacfs.core import versions
from hmacfs.core.paths import SlotPath

CLAIM = "claim"
"""The reason for a file whose own end has come."""
SIZE = "MaxRetentionSize"
"""The reason for a file that had to make room."""
TOO_MANY = "MaxVersions"
"""The reason for a version of which there are too many."""
DELETED = "DELETE"
"""The reason for a version whose file is gone: a deletion was cut off, or other hands took the file."""

SPARED_SECONDS = 3600
"""Files that are younger never go to make room (configuration, end of the page)."""


@dataclass(frozen=True, slots=True)
class AgeRule:
    """Args: name: of the key that sets it. seconds: after which a file goes, more than 0."""

    name: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Policy:
    """Attributes:
    ages: the age limits that are enabled, in the order of their keys.
    most_bytes: of the whole store; 0 for no limit.
    """

    ages: tuple[AgeRule, ...] = ()
    most_bytes: int = 0

    @property
    def age(self) -> AgeRule | None:
        """The shortest limit; of two that are equal the first."""
        return min(self.ages, key=lambda rule: rule.seconds, default=None)


@dataclass(frozen=True, slots=True)
class History:
    """What is known of all old versions of one path together.

    Attributes:
        ledger: what is remembered of the path.
        most: of them that stay, MaxVersions; None for all, because nothing is replaced any more.
        is_over: whether their file is gone.
    """

    ledger: versions.Ledger
    most: int | None = None
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A file of the store, or an old version of one, as it was seen.

    Attributes:
        modified_ns: its last change, which is when it was stored where nothing else is noted.
        expires_at: Unix seconds, its own end; 0 for none.
        version: number of an old version; 0 for the file itself.
        file: of an old version, the file that stands under its path now: it goes with that at the latest. None where
            none is known.
        noted_ns: of an old version, when it had been stored; 0 where that is not noted.
        history: of an old version, what is known of it and its like; None lets it stay among any number.
    """

    path: SlotPath
    inode: int
    size: int
    modified_ns: int
    expires_at: int = 0
    version: int = 0
    file: "Held | None" = None
    history: History | None = None
    noted_ns: int = 0

    @property
    def stored_ns(self) -> int:
        """When it was stored."""
        return self.noted_ns or self.modified_ns

    @property
    def turn_ns(self) -> int:
        """What the rule on size orders by: when it was stored, and for a version no later than its file."""
        return self.stored_ns if self.file is None else min(self.stored_ns, self.file.stored_ns)

    @property
    def turn(self) -> int:
        """The same in whole Unix seconds."""
        return self.turn_ns // 1_000_000_000


@dataclass(slots=True)
class Batch:
    """Some of what a look through the store found.

    Attributes:
        files: of a path all old versions, or none.
        empty: folders with nothing in them, relative to the store, with the time of their last change in Unix seconds.
    """

    files: list[Held] = field(default_factory=list)
    empty: list[tuple[bytes, float]] = field(default_factory=list)


def age_rules(
    *, file_ttl: int, delete_files: bool, delete_after: int, policy_enabled: bool, most_time: int
) -> tuple[AgeRule, ...]:
    """The age limits that these values of the keys enable; all in seconds, 0 for none."""
    rules = (
        AgeRule("FileTTL", file_ttl),
        AgeRule("DeleteFilesAfterPeriod", delete_after if delete_files else 0),
        AgeRule("MaxRetentionTime", most_time if policy_enabled else 0),
    )
    return tuple(rule for rule in rules if rule.seconds > 0)


def told(policy: Policy) -> list[str]:
    """What the log says of a policy at start, one sentence for each rule; nothing where files stay for ever."""
    sentences = []
    if policy.age is not None:
        others = [f"{rule.name} = {units.shown_duration(rule.seconds)}" for rule in policy.ages if rule != policy.age]
        shorter = f", shorter than {' and '.join(others)}" if others else ""
        limit = units.shown_duration(policy.age.seconds)
        sentences.append(f"Retention: files are deleted {limit} after they were stored ({policy.age.name}{shorter})")
    if policy.most_bytes:
        limit = units.shown_size(policy.most_bytes)
        sentences.append(f"Retention: the oldest files are deleted while the store holds more than {limit} ({SIZE})")
    return sentences


def end_of_life(modified: float, expires_at: int, age: AgeRule | None) -> float | None:
    """When a file's time is over, in Unix seconds; None for never by its age.

    Args:
        modified: when it was stored, in Unix seconds.
        expires_at: its own end, 0 for none. The earlier of the two wins.
    """
    ends = [float(expires_at)] if expires_at else []
    if age is not None:
        ends.append(modified + age.seconds)
    return min(ends, default=None)


def reason_to_go(held: Held, age: AgeRule | None, now: float) -> str:
    """Why a file goes now because of its age: CLAIM, the key's name, or nothing. A version also goes for the reason of
    its file. Args: now: Unix seconds."""
    if 0 < held.expires_at <= now:
        return CLAIM
    if age is not None and held.stored_ns / 1e9 + age.seconds <= now:
        return age.name
    return "" if held.file is None else reason_to_go(held.file, age, now)


def reasons_to_go(files: Sequence[Held], age: AgeRule | None, now: float, *, by_age: bool = True) -> list[str]:
    """Why each file goes now, or nothing: by its age, and of the versions that this leaves those that are too many, or
    whose file is gone.

    Args:
        files: as in ``Batch``.
        now: Unix seconds.
        by_age: False where the clock is not believed.
    """
    found = [reason_to_go(held, age, now) if by_age else "" for held in files]
    staying: dict[SlotPath, list[int]] = {}
    for place, held in enumerate(files):
        if held.history is not None and not found[place]:
            staying.setdefault(held.path, []).append(place)
    for places in staying.values():
        reason, numbers = _surplus([files[place] for place in places], now)
        for place in places:
            if files[place].version in numbers:
                found[place] = reason
    return found


def _surplus(held: Sequence[Held], now: float) -> tuple[str, set[int]]:
    """Which of the versions of one path go whatever their age, by number, and why."""
    history, numbers = held[0].history, {each.version for each in held}
    if history is None or history.is_over:
        return DELETED, numbers
    if history.most is None or len(numbers) <= history.most:
        return "", set()
    return TOO_MANY, set(versions.surplus(numbers, history.most, history.ledger, now))


def is_spared(held: Held, now: float) -> bool:
    """Whether a file is too young to make room. One from the future is: nobody knows how old it is."""
    return held.turn_ns / 1e9 > now - SPARED_SECONDS
