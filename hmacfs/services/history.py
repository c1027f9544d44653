"""Old versions of a file: what there is, and one of them (protocol, section 4). Only for who signs a download (v3)."""

from collections.abc import Callable, Sequence

from hmacfs.core.paths import SlotPath
from hmacfs.services.downloads import Download, DownloadRequest, Downloads
from hmacfs.storage.base import OldVersion, Stored, Versions

CACHE_NEVER = "private, no-cache"
"""A link to a version ends with its signature: nobody in between may keep what it showed."""


class History:
    """The use cases of ``?versions`` and ``?version=N``.

    Args:
        check: judges the signature of a download; raises BadSignature.
    """

    def __init__(self, versions: Versions, downloads: Downloads, check: Callable[[DownloadRequest], object]) -> None:
        self._versions = versions
        self._downloads = downloads
        self._check = check

    def listed(self, request: DownloadRequest) -> Sequence[OldVersion]:
        """What is kept of the path, the newest last. Raises BadSignature, TooManyRequests, NotFound."""
        self._check(request)
        self._downloads.check_rate(request)
        return self._versions.of(request.path)

    def open(self, request: DownloadRequest, number: int) -> Download:
        """One version, to be sent as Downloads.open would. Raises what that raises, and BadSignature."""
        self._check(request)

        def opener(path: SlotPath, *, with_content: bool) -> Stored:
            return self._versions.open(path, number, with_content=with_content)

        return self._downloads.open(request, opener, CACHE_NEVER)
