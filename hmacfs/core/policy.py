"""Which files an operator does not want: by the extensions of their names, and by what they are.

Names are judged as the system that opens the file would read them. Content is judged by its first block, before
anything is published.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from hmacfs.core import sniffing
from hmacfs.errors import ExtensionRefused, TypeRefused

_ENDS_A_PART = re.compile(r"[:;].*", re.DOTALL)
"""Windows takes what follows a colon for a stream of the file, and its web server ends a name at a semicolon."""


def extensions(name: str) -> str:
    """Every extension of a file name, one behind the other as in ``.tar.gz``; empty for a name without any.

    Lower case, in compatibility form and without characters that nobody sees; dots and spaces at the end count for
    nothing, because Windows drops them.
    """
    seen = "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if unicodedata.category(c) != "Cf")
    parts = [_ENDS_A_PART.sub("", part).strip() for part in seen.split(".")[1:]]
    return "".join(f".{part}" for part in parts if part)


def normalised(extension: str) -> str:
    """An entry of AllowedExtensions or BlockedExtensions as ``extensions`` writes it; empty for no extension at all."""
    return extensions("." + extension.removeprefix("."))


class TypePatterns:
    """Args: patterns: ``type/subtype``, in whatever case, or ``type/*``."""

    def __init__(self, patterns: Sequence[str]) -> None:
        lowered = [pattern.lower() for pattern in patterns]
        self._whole = tuple(pattern[:-1] for pattern in lowered if pattern.endswith("/*"))
        self._exact = frozenset(name for pattern in lowered for name in sniffing.with_aliases(pattern))

    def include(self, content_type: str) -> bool:
        """Whether a bare content type, in lower case, is one of these under any of its names."""
        return content_type in self._exact or content_type.startswith(self._whole)


class FirstBlock:
    """Watches a file that comes in order from its first byte, and judges it as soon as its first block is there, or all
    of a shorter file: what a cut hides may be anything.

    Args:
        total: bytes of the whole file.
    """

    def __init__(self, patterns: TypePatterns, total: int) -> None:
        self._patterns = patterns
        self._missing = min(total, sniffing.FIRST_BLOCK)
        self._block = bytearray()

    @property
    def has_judged(self) -> bool:
        """Whether enough has come."""
        return not self._missing

    def update(self, block: bytes | bytearray | memoryview) -> None:
        """The next bytes. Raises TypeRefused with those that complete the first block."""
        if self._missing:
            taken = block[: self._missing]
            self._block += taken
            self._missing -= len(taken)
            if not self._missing:
                self._judge()

    def _judge(self) -> None:
        for name in sorted(sniffing.types_of(bytes(self._block))):
            if self._patterns.include(name):
                raise TypeRefused(f"BlockedTypes: the content is {name}")


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be uploaded.

    Attributes:
        allowed, blocked: normalised extensions. Of several extensions the last one must be allowed, and none may be
            blocked: a web server that is set up for it runs ``x.php.jpg``, and nobody would upload ``my.holiday.jpg``
            if "holiday" had to be allowed.
        types: None where every type may come.
    """

    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    types: TypePatterns | None = None

    def check(self, name: str, content_type: str) -> None:
        """Judge what a signed request declares.

        Args:
            name: the last segment of PATH.
            content_type: TYPE as declared; its parameters count for nothing.

        Raises:
            ExtensionRefused, TypeRefused.
        """
        if self.allowed or self.blocked:
            self._check_extensions(extensions(name))
        # A browser that is sent several types joined by commas takes one of them (Fetch, "extract a MIME type").
        declared = [each.partition(";")[0].strip().lower() for each in content_type.split(",")]
        if self.types is not None and any(self.types.include(each) for each in declared):
            raise TypeRefused(f"BlockedTypes: {content_type} was declared")

    def first_block(self, total: int) -> FirstBlock | None:
        """For the content of a file of ``total`` bytes; None where any content may come."""
        return FirstBlock(self.types, total) if self.types is not None else None

    def _check_extensions(self, found: str) -> None:
        for entry in self.blocked:
            if f"{entry}." in f"{found}." if entry else not found:
                raise ExtensionRefused(f"BlockedExtensions: {entry or 'none'}")
        if self.allowed and not any(found.endswith(entry) if entry else not found for entry in self.allowed):
            raise ExtensionRefused(f"not in AllowedExtensions: {found or 'none'}")


ANYTHING = Policy()


def make(allowed: Sequence[str], blocked: Sequence[str], types: Sequence[str]) -> Policy:
    """The policy that AllowedExtensions, BlockedExtensions and BlockedTypes describe."""
    if not (allowed or blocked or types):
        return ANYTHING
    return Policy(
        tuple(normalised(entry) for entry in allowed),
        tuple(normalised(entry) for entry in blocked),
        TypePatterns(types) if types else None,
    )
