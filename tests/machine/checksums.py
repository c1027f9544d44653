"""The digests that a request declares, and how the faces spell them (protocol, section 5.4)."""

from dataclasses import dataclass, replace

from tests.machine.content import Content
from tests.machine.wire import Body, base64, sha256, wrong

SPELLINGS = ("X-Checksum", "Repr-Digest", "Digest")


@dataclass(frozen=True)
class Checksums:
    """What a request declares: None for nothing, else whether it is right.

    Attributes:
        piece: of this body.
        whole: of the whole file.
        spelling: which of the fields for the whole file carries it.
    """

    piece: bool | None = None
    whole: bool | None = None
    spelling: str = SPELLINGS[0]

    def whole_digest(self, content: Content, body: Body) -> bytes | None:
        """Args: content: as it is with the body. A digest of a file that is not complete then can only be wrong."""
        exact = content.exact()
        if self.whole is None or (self.whole and exact is None):
            return None
        return sha256(exact) if self.whole and exact is not None else wrong(body)

    def of_whole(self, body: Body, whole: bytes | None) -> frozenset[bytes]:
        """Digests that the file must have where the body is all of it."""
        piece = None if self.piece is None else sha256(body.content) if self.piece else wrong(body)
        return frozenset(filter(None, (whole, piece)))

    def fields(self, body: Body, whole: bytes | None) -> list[tuple[str, str]]:
        """The header fields; Content-Digest for the piece."""
        fields = [] if whole is None else [(self.spelling, _spelt(self.spelling, whole))]
        if self.piece is not None:
            digest = sha256(body.content) if self.piece else wrong(body)
            fields.append(("Content-Digest", f"sha-256=:{base64(digest)}:"))
        return fields


def _spelt(spelling: str, digest: bytes) -> str:
    if spelling == "X-Checksum":
        return digest.hex()
    return f"sha-256=:{base64(digest)}:" if spelling == "Repr-Digest" else f"sha-256={base64(digest)}"


def tus_fields(checksums: Checksums, body: Body, whole: bytes | None) -> list[tuple[str, str]]:
    """How tus says it, and that it is tus: Upload-Checksum for the piece."""
    fields = [("Tus-Resumable", "1.0.0"), *replace(checksums, piece=None).fields(body, whole)]
    if checksums.piece is not None:
        digest = sha256(body.content) if checksums.piece else wrong(body)
        fields.append(("Upload-Checksum", f"sha256 {base64(digest)}"))
    return fields
