"""What the services and the web layer tell about themselves. Telemetry listens; nobody else needs to know it exists."""

from dataclasses import dataclass, field

from hmacfs.errors import RequestError

SLOT, UPLOAD, OTHER = "slot", "upload", "other"
"""What a path leads to: a file, an unfinished upload, nothing of ours."""


@dataclass(slots=True)
class Exchange:
    """One request and its answer, told when the answer has been sent or given up.

    Attributes:
        path: as ``core.paths.shown`` writes it; never a query string.
        protocol: which signature form was judged, "none" where none was.
        code: the stable error code, empty for a success.
        sent, received: body bytes.
        kept: how many of those received are in the store, whatever became of the request.
        whole: body bytes of a successful answer; ``sent`` is less where it was broken off.
        route: SLOT, UPLOAD or OTHER.
        is_continued: the body went on where an earlier one had stopped.
        seconds: from the request head to the end of the answer.
        detail: what the log may say about a refusal beyond its code.
        hints: sentences about a refused signature that an operator can act on.
        request_id: tells this request from all others, here and in the log of a proxy in front.
    """

    method: str
    path: str
    client: str
    status: int = 0
    code: str = ""
    protocol: str = "none"
    sent: int = 0
    received: int = 0
    kept: int = 0
    whole: int = 0
    route: str = OTHER
    is_continued: bool = False
    seconds: float = 0.0
    detail: str = ""
    hints: tuple[str, ...] = field(default=())
    request_id: str = ""


class Observer:
    """Listens to nothing. Subclasses override what they care about; no method may raise or block."""

    def answered(self, exchange: Exchange) -> None:
        """An answer has ended."""

    def upload_completed(self, name: str, size: int, seconds: float, uploader: str = "", client: str = "") -> None:
        """A file was published; ``name`` as ``core.paths.shown`` writes it.

        Args:
            uploader: where that is known.
            client: address of who sent its last byte; empty for an unknown one.
        """

    def upload_expired(self, name: str) -> None:
        """An unfinished upload was removed after SessionTTL; ``name`` as ``core.paths.shown`` writes it."""

    def version_removed(self, name: str, number: int, size: int, freed: int, reason: str) -> None:
        """A version was removed beyond MaxVersions, by an upload. What a sweep removes is told as a file.

        Args:
            size: bytes it had; who counts the store counts shared content once for each name, as ``upload_completed``
                and ``file_removed`` do.
            freed: bytes that this freed on the disk: none where its content has other names.
            reason: "MaxVersions".
        """

    def file_absorbed(self, size: int) -> None:
        """The store holds one file fewer than uploads have told: one of equal content stayed instead of it, or the one
        that it replaced is not kept. Args: size: bytes fewer."""

    def content_shared(self, name: str, saved: int) -> None:
        """A file shares its content with an earlier one from now on; ``saved``: bytes."""

    def sharing_failed(self, name: str, error: RequestError) -> None:
        """A file could not be compared with an earlier one; it stays as it is."""

    def file_removed(self, name: str, size: int, reason: str, version: int, client: str = "") -> None:
        """A file was deleted, by a sweep or for who signed for it. Versions that go along are told one by one.

        Args:
            reason: the key of the rule, "claim" for the file's own end, or "DELETE".
            version: number of an old version, 0 for the file itself.
            client: address of who deleted it; empty for a sweep, and for an unknown one.
        """

    def leftover_removed(self, kind: str, name: str) -> None:
        """A "folder" in which nothing was, or a "sidecar" of no file, was deleted by a sweep."""

    def swept(self, files: int, stored: int, removed: int, freed: int, seconds: float) -> None:
        """A sweep has ended. Args: files, stored: what it left, and bytes. removed, freed: what it took, and bytes."""

    def clock_doubted(self, expired: int, files: int) -> None:
        """A sweep left the age rules alone, because the wall clock has run ahead and most files would have gone."""

    def sweep_failed(self, error: BaseException) -> None:
        """What should have been removed was not; the next sweep tries again."""

    def signature_refused(self, exchange: Exchange, reason: str, size: int, content_type: str) -> None:
        """A signature did not hold; ``reason`` as in BadSignature."""

    def tiers_changed(self, sessions: str, catalog: str, down: frozenset[str]) -> None:
        """Which tiers of shared state serve, at first and whenever it changes.

        Args:
            sessions, catalog: the tier that does, or "none".
            down: those that do not answer.
        """

    def failed(self, exchange: Exchange, error: BaseException) -> None:
        """Something unforeseen happened, or the storage failed."""

    def banned(self, address: str, seconds: int, times: int) -> None:
        """A client address was banned.

        Args:
            seconds: how long; 0 until an operator lifts it.
            times: blocks in a row, this one included.
        """

    def collecting(self) -> None:
        """The loop stands still for the garbage collector (GCInterval)."""

    def collected(self, seconds: float, found: int) -> None:
        """It is over. Args: found: objects that nobody could reach any more."""

    def bans_lifted(self, count: int) -> None:
        """The secret has changed, so all bans were lifted."""

    def secret_suspected(self) -> None:
        """Several addresses fail and none has succeeded since the start; said once for the whole server."""

    def bans_failed(self, error: BaseException) -> None:
        """A fault of ours kept the bans from being shared; memory alone decides until the next second."""
