"""What may be answered to one request, and what each answer means for the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support.http import Answer

Effect = Callable[[Answer], None]


def nothing(_answer: Answer) -> None:
    """The answer changes nothing."""


@dataclass
class May:
    """One answer that may come.

    Attributes:
        offsets: what Upload-Offset may be; None where there need be none.
        token: of X-Session-Token; None where it does not matter.
        headers: others that must be there, with these values.
    """

    status: int
    effect: Effect = nothing
    offsets: range | None = None
    token: Callable[[str], bool] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def fits(self, answer: Answer) -> bool:
        return (
            answer.status == self.status
            and (self.offsets is None or offset_of(answer) in self.offsets)
            and (self.token is None or self.token(answer.get("X-Session-Token") or ""))
            and all(answer.get(name) == value for name, value in self.headers.items())
        )

    def __str__(self) -> str:
        at = "" if self.offsets is None else f" at {self.offsets.start} to {self.offsets.stop - 1}"
        return f"{self.status}{at}{''.join(f' {name}: {value}' for name, value in self.headers.items())}"


def offset_of(answer: Answer) -> int:
    text = answer.get("Upload-Offset")
    return -1 if text is None else int(text)


def exactly(offset: int) -> range:
    return range(offset, offset + 1)


@dataclass
class Expected:
    """Attributes:
    answers: that may come.
    lost: what may have happened when the worker was killed before its answer.
    """

    answers: Sequence[May]
    lost: Callable[[], None] = lambda: None

    def meet(self, answer: Answer | None) -> None:
        """Raises AssertionError for an answer that may not come."""
        if answer is None:
            return self.lost()
        fitting = next((may for may in self.answers if may.fits(answer)), None)
        said = f"{answer.status} {answer.code} {answer.headers}"
        assert fitting is not None, f"{said}, but the protocol says {' or '.join(map(str, self.answers))}"
        return fitting.effect(answer)
