"""What must never be read where people and programs read (protocol, section 2), and the search for it.

Patterns find what can be told by its looks: a MAC, a JSON Web Token, an upload's id in a path, a query. Whatever else
tests hand out is known by its value: a secret, a password, a session token, an id elsewhere. A known value is found by
its first 16 characters, and all but a token by any 31 in a row; of an id behind ``.uploads/`` eight characters are
shown on purpose, and the ninth is a leak. The search takes time by the length of the text alone, however much was
handed out.

What is written is kept until the end of its test: a value may be handed out after it was written, such as an id that
is logged before the client has read the answer with it. Who writes is not known here: ``tests.support.heard``.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    SECRET = "secret"
    MAC = "MAC"
    TOKEN = "token"
    ID = "upload id"
    QUERY = "query string"


EVERYTHING = frozenset(Kind)

_PATTERNS = (
    (Kind.TOKEN, re.compile(r"eyJ[\w-]{8,}\.[\w-]+")),
    # Before queries, which end where the mask of a MAC begins. Longer rows of hex digits are no MAC: MACs have 64.
    (Kind.MAC, re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")),
    (Kind.ID, re.compile(r"(?<=\.uploads/)[\w-]{9,}", re.ASCII)),
    # A path may end in what looks like a query without its MAC: of a proxy that encodes "?" the log shows that much.
    # "?db=0" is how the advice on a wrong RedisAddr spells an address.
    (Kind.QUERY, re.compile(r"(?:\?|%3[fF])(?!db=0\b)[\w.~%-]+(?:=|%3[dD])(?!\[64-hex-digits\])[^\s\"'<>]*")),
    (
        Kind.QUERY,
        re.compile(r"[?&](?:v|v2|v3|token|expires|versions?)(?:=(?!\[64-hex-digits\])[^\s\"'<>]*|(?![\w=]))"),
    ),
)
_RESOURCE = re.compile(r"/\.uploads/([\w-]+)", re.ASCII)
_TOKEN = re.compile(r"^[\w-]{16,128}$", re.ASCII)
_RUN = re.compile(r"[A-Za-z0-9_-]{16,}")
_WORD = re.compile(r"[A-Za-z0-9_-]+")
_WINDOW = 16
_LEAST = 8
"""Characters. A shorter value is not looked for: it could not be told from a word. A server takes none under 16."""

_SHOWN = 160


@dataclass(frozen=True)
class Leak:
    """Args: line: the one with the leak, all that is a leak in it masked."""

    place: str
    kind: Kind
    line: str

    def __str__(self) -> str:
        return f"{self.place} shows a {self.kind.value}: {self.line}"


class Known:
    """The values that were handed out, and the search for them and for all patterns."""

    def __init__(self) -> None:
        self._windows: dict[str, Kind] = {}
        self._texts: dict[str, Kind] = {}

    def add(self, kind: Kind, value: str) -> None:
        """Look for ``value`` from now on; harmless where it is known already."""
        if len(value) >= _WINDOW and _WORD.fullmatch(value):
            # Tests make tokens of words of their paths, which are shown: of a token its beginning tells.
            last = 0 if kind is Kind.TOKEN else len(value) - _WINDOW
            for at in range(0, last + 1, _WINDOW):
                self._windows.setdefault(value[at : at + _WINDOW], kind)
        elif len(value) >= _LEAST:
            for text in {value, json.dumps(value)[1:-1]}:
                self._texts.setdefault(text, kind)

    def search(self, place: str, text: str, shows: Collection[Kind] = ()) -> list[Leak]:
        """Every line of ``text`` with a leak, once for each kind.

        Args:
            place: file or stream, for the sentence.
            shows: what may stand there.
        """
        lines: dict[tuple[int, Kind], None] = {}
        for start, _, kind in self._found(text):
            if kind not in shows:
                lines[text.rfind("\n", 0, start) + 1, kind] = None
        return [Leak(place, kind, self._masked(text[first:].partition("\n")[0])) for first, kind in lines]

    def _found(self, text: str) -> Iterator[tuple[int, int, Kind]]:
        for kind, pattern in _PATTERNS:
            yield from ((match.start(), match.end(), kind) for match in pattern.finditer(text))
        for run in _RUN.finditer(text):
            found = run[0]
            windows = (found[at : at + _WINDOW] for at in range(len(found) - _WINDOW + 1))
            known = next(filter(None, map(self._windows.get, windows)), None)
            if known is not None:
                yield run.start(), run.end(), known
        for value, known in self._texts.items():
            at = text.find(value)
            while at >= 0:
                yield at, at + len(value), known
                at = text.find(value, at + 1)

    def _masked(self, line: str) -> str:
        """``line`` without any leak, and no more of it than is needed to know it again."""
        found = sorted(self._found(line), key=lambda each: each[0])
        pieces, here = [], 0
        for start, end, kind in found:
            if start >= here:
                pieces.append(f"{line[here:start]}<{kind.value}>")
            here = max(here, end)
        whole = "".join(pieces) + line[here:]
        first = max(0, min((whole.find(f"<{kind.value}>") for _, _, kind in found), default=0) - _SHOWN // 2)
        return whole[first : first + _SHOWN].strip()


_known = Known()
_written: list[tuple[str, str, Collection[Kind]]] = []


def handed_out(kind: Kind, *values: str) -> None:
    """Whatever hmacfs writes from now on, and what it has written in this test, is searched for these."""
    for value in values:
        _known.add(kind, value)


def exchanged(headers: Iterable[tuple[str, str]]) -> None:
    """The fields of a request or an answer: in some are tokens and ids."""
    for name, value in headers:
        match name.lower():
            case "x-session-token":
                handed_out(Kind.TOKEN, *_TOKEN.findall(value))
            case "location":
                handed_out(Kind.ID, *_RESOURCE.findall(value))


def wrote(place: str, text: str | bytes, shows: Collection[Kind] = ()) -> None:
    """Search ``text`` at the end of the test. Args: as of ``Known.search``."""
    if text:
        _written.append((place, decoded(text), shows))


def decoded(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")


def found() -> list[Leak]:
    """Leaks in all that was written since this was asked last."""
    written = _written[:]
    del _written[: len(written)]  # a thread may go on writing
    once = {(text, frozenset(shows)): place for place, text, shows in written}  # some ask until something has changed
    return [leak for (text, shows), place in once.items() for leak in _known.search(place, text, shows)]
