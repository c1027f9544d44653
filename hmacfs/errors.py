"""Every error this package raises, in one tree.

A request error knows three things a client may see (a stable ``code``, an HTTP ``status`` and one public
``sentence``) and may carry evidence for the log as attributes. ``web/errors.py`` gives it its HTTP face; the same
``code`` labels the log line. Evidence never holds a secret, a MAC or a query string.

    HmacfsError
    +-- ConfigError                   settings cannot be used; for people, exit status 2
    +-- RequestError
        +-- BadRequest           400  bad-request
        |   +-- BadPath          400  bad-path
        |   +-- BadQuery         400  bad-query
        |   +-- BadHeader        400  bad-header
        |   +-- BadContentRange  400  bad-content-range
        |   +-- BadChecksum      400  bad-checksum
        |   +-- ChecksumMismatch 400  checksum-mismatch
        |   +-- BadBody          400  bad-body
        |   +-- Truncated        400  body-truncated
        |   +-- BadUploadLength  400  inconsistent-upload-length
        |   +-- UploadComplete   400  upload-complete (403 for tus)
        +-- BadSignature         403  bad-signature
        +-- WrongSlot            403  wrong-slot
        +-- Banned               403  banned
        +-- ExtensionRefused     403  extension-refused
        +-- TypeRefused          403  type-refused
        +-- NotFound             404  not-found
        |   +-- NotPublishedYet  404  not-found
        |   +-- UnknownUpload    404  unknown-upload
        +-- MethodNotAllowed     405  method-not-allowed
        +-- BodyTimeout          408  body-timeout
        +-- FileExists           409  file-exists
        +-- PathConflict         409  path-conflict
        +-- WrongOffset          409  mismatching-upload-offset
        +-- TooManyGaps          409  too-many-gaps
        +-- TakenOver            409  taken-over
        +-- UploadExists         409  upload-exists
        +-- UploadGone           410  upload-gone
        +-- Gone                 410  gone
        +-- LengthRequired       411  length-required
        +-- PreconditionFailed   412  precondition-failed
        +-- UnsupportedTus       412  unsupported-tus-version
        +-- TooLarge             413  too-large
        |   +-- BodyTooLong      413  body-too-long
        +-- BadMediaType         415  bad-media-type
        +-- RangeNotSatisfiable  416  range-not-satisfiable
        +-- TooManyUploads       429  too-many-uploads
        +-- TooManySessions      429  too-many-sessions
        +-- TooManyVersions      429  too-many-versions
        +-- TooManyRequests      429  too-many-requests
        +-- UnsupportedCoding    501  unsupported-coding
        +-- StorageFailed        500  storage-failed
        +-- StorageBusy          503  storage-busy
        +-- UploadBusy           503  upload-busy
        +-- ServerBusy           503  server-busy
        +-- Draining             503  draining
        +-- StateUnavailable     503  state-unavailable
        +-- StorageFull          507  storage-full
        +-- QuotaExceeded        507  quota-exceeded
"""

from collections.abc import Sequence


class HmacfsError(Exception):
    """Base of everything raised on purpose by this package."""


class ConfigError(HmacfsError):
    """Settings that cannot be used: one line per problem, each saying what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class RequestError(HmacfsError):
    """A refused or failed request, as the client will see it."""

    code = "internal"
    status = 500
    sentence = "The server could not handle this request."
    retry_after: int | None = None
    """Seconds for a Retry-After header, where trying again can help."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.sentence)
        self.detail = detail
        """What the log may say beyond the public sentence."""


class BadRequest(RequestError):
    code, status = "bad-request", 400
    sentence = "The request is malformed."


class BadPath(BadRequest):
    code = "bad-path"
    sentence = "The path is not one that can be stored."


class BadQuery(BadRequest):
    code = "bad-query"
    sentence = "The query string is malformed or repeats a signing parameter."


class BadHeader(BadRequest):
    code = "bad-header"
    sentence = "A request header is malformed or contradicts another."


class BadContentRange(BadRequest):
    """RFC 9110 section 14.4: a Content-Range on PUT that is not supported is refused, never ignored."""

    code = "bad-content-range"
    sentence = "The Content-Range is malformed, does not fit the body, or is not accepted here."


class BadChecksum(BadRequest):
    """A checksum header that cannot be verified: refused, because ignoring it would be a promise not kept."""

    code = "bad-checksum"
    sentence = "A checksum header is malformed or names no algorithm that is known here."


class ChecksumMismatch(BadRequest):
    """The bytes that arrived are not those that a checksum header announced. The detail names the algorithm only."""

    code = "checksum-mismatch"
    sentence = "The content does not have the checksum that was declared; it was not stored."


class BadBody(BadRequest):
    code = "bad-body"
    sentence = "The body is not framed correctly."


class Truncated(BadRequest):
    code = "body-truncated"
    sentence = "The body ended before its declared length; nothing was stored."


class BadUploadLength(BadRequest):
    """A problem type of draft-ietf-httpbis-resumable-upload."""

    code = "inconsistent-upload-length"
    sentence = "The declared lengths of this upload contradict each other."


class UploadComplete(BadRequest):
    """The upload is published and takes nothing more. tus gives it 403 (protocol, section 5.2)."""

    code = "upload-complete"
    sentence = "This upload is complete already."


class BadSignature(RequestError):
    """Missing, malformed or wrong: one face for all three, only the log tells them apart.

    Args:
        protocol: which parameter was judged, or "none".
        reason: "missing", "malformed", "wrong", "expired", "early" or "misfit". Only "wrong" counts towards a ban.
        size, content_type: what was judged, for the log.
        hints: sentences an operator can act on.
    """

    code, status = "bad-signature", 403
    sentence = "The signature is missing or wrong."

    def __init__(
        self, protocol: str, reason: str, hints: Sequence[str] = (), *, size: int = 0, content_type: str = ""
    ) -> None:
        super().__init__(reason)
        self.protocol = protocol
        self.reason = reason
        self.size = size
        self.content_type = content_type
        self.hints = tuple(hints)


class WrongSlot(RequestError):
    code, status = "wrong-slot", 403
    sentence = "This session token belongs to another slot."


class Banned(RequestError):
    """Args: seconds: until it is worth to try again."""

    code, status = "banned", 403
    sentence = "This address is banned for a while, because too many of its signatures were wrong."

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.retry_after = seconds


class ExtensionRefused(RequestError):
    """AllowedExtensions, BlockedExtensions."""

    code, status = "extension-refused", 403
    sentence = "Files with this extension are not accepted here."


class TypeRefused(RequestError):
    """BlockedTypes; by what the request declares, or by what the content is."""

    code, status = "type-refused", 403
    sentence = "Files of this type are not accepted here."


class NotFound(RequestError):
    code, status = "not-found", 404
    sentence = "There is no such file."


class NotPublishedYet(NotFound):
    """It is about to be there. For clients the same as NotFound."""


class UnknownUpload(NotFound):
    code = "unknown-upload"
    sentence = "There is no such upload; ask for its offset, or begin anew."


class MethodNotAllowed(RequestError):
    code, status = "method-not-allowed", 405
    sentence = "This method is not allowed here."


class BodyTimeout(RequestError):
    code, status = "body-timeout", 408
    sentence = "The body did not arrive in time."


class FileExists(RequestError):
    code, status = "file-exists", 409
    sentence = "The file exists already."


class PathConflict(RequestError):
    """The path needs a file as a directory, or names a directory."""

    code, status = "path-conflict", 409
    sentence = "The path needs a file as a directory, or a directory as a file."


class WrongOffset(RequestError):
    """Args: offset: where the upload really stands. provided: what the client said, None where it said nothing."""

    code, status = "mismatching-upload-offset", 409
    sentence = "The upload does not stand at this offset."

    def __init__(self, offset: int, provided: int | None = None) -> None:
        super().__init__(f"it stands at {offset}, not at {provided}")
        self.offset = offset
        self.provided = provided


class TooManyGaps(RequestError):
    """Args: offset: the length of the gap-free prefix."""

    code, status = "too-many-gaps", 409
    sentence = "The upload has too many gaps; continue at its offset."

    def __init__(self, offset: int) -> None:
        super().__init__()
        self.offset = offset


class TakenOver(RequestError):
    """What had arrived is recorded."""

    code, status = "taken-over", 409
    sentence = "Another request continues this upload."


class UploadExists(RequestError):
    """Another request began an upload with the same token at the same moment."""

    code, status = "upload-exists", 409
    sentence = "Another request begins this upload."


class UploadGone(RequestError):
    code, status = "upload-gone", 410
    sentence = "This upload has ended."


class Gone(RequestError):
    """Expired or deleted, and known to be."""

    code, status = "gone", 410
    sentence = "The file has expired or was deleted."


class LengthRequired(RequestError):
    code, status = "length-required", 411
    sentence = "A Content-Length header is required."


class PreconditionFailed(RequestError):
    code, status = "precondition-failed", 412
    sentence = "A precondition of the request does not hold."


class UnsupportedTus(RequestError):
    """tus 1.0.0, "Tus-Resumable": another version is 412, and nothing of the request is processed."""

    code, status = "unsupported-tus-version", 412
    sentence = "This version of tus is not supported."


class TooLarge(RequestError):
    code, status = "too-large", 413
    sentence = "The file is larger than this server accepts."


class BodyTooLong(TooLarge):
    code = "body-too-long"
    sentence = "The body goes beyond the declared length of the upload."


class BadMediaType(RequestError):
    code, status = "bad-media-type", 415
    sentence = "This Content-Type is not the one that the protocol wants here."


class TooManySessions(RequestError):
    code, status, retry_after = "too-many-sessions", 429, 5
    sentence = "This slot has too many unfinished uploads."


class TooManyUploads(RequestError):
    code, status, retry_after = "too-many-uploads", 429, 5
    sentence = "This address has too many uploads at once."


class TooManyVersions(RequestError):
    """VersionsPerDay. Args: retry_after: seconds until the file may be replaced again."""

    code, status = "too-many-versions", 429
    sentence = "This file has been replaced too often today."

    def __init__(self, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after


class TooManyRequests(RequestError):
    """Args: seconds: until it is worth to try again."""

    code, status = "too-many-requests", 429
    sentence = "This address has sent too many requests."

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.retry_after = seconds


class RangeNotSatisfiable(RequestError):
    """Args: size: bytes in the whole file, for Content-Range."""

    code, status = "range-not-satisfiable", 416
    sentence = "The requested range lies outside the file."

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class UnsupportedCoding(RequestError):
    code, status = "unsupported-coding", 501
    sentence = "This transfer coding is not supported."


class StorageFailed(RequestError):
    """Attributes: may_pass: as failures of a network filesystem often do."""

    code, status = "storage-failed", 500
    sentence = "The storage failed."
    may_pass = False


class StorageBusy(RequestError):
    code, status, retry_after = "storage-busy", 503, 5
    sentence = "The server is short of resources; try again."


class UploadBusy(RequestError):
    """Who held the upload did not give way in time."""

    code, status, retry_after = "upload-busy", 503, 5
    sentence = "Another request still holds this upload; try again."


class ServerBusy(RequestError):
    code, status, retry_after = "server-busy", 503, 5
    sentence = "The server has as many transfers as it can take; try again."


class Draining(RequestError):
    code, status, retry_after = "draining", 503, 5
    sentence = "The server is about to stop or restart; try again."


class StateUnavailable(RequestError):
    """A tier of shared state does not answer, or answers with an error."""

    code, status, retry_after = "state-unavailable", 503, 5
    sentence = "The server's shared state cannot be reached; try again."


class StorageFull(RequestError):
    code, status = "storage-full", 507
    sentence = "There is not enough space for this file."


class QuotaExceeded(RequestError):
    code, status = "quota-exceeded", 507
    sentence = "You have as many bytes here as you may have; delete files, or wait until old ones expire."
