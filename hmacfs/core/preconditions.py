"""Conditional requests (RFC 9110 section 13) for a file with a strong ETag and a modification time."""

import calendar
from dataclasses import dataclass
from email.utils import parsedate_tz
from enum import Enum


class Outcome(Enum):
    PROCEED = "proceed"
    NOT_MODIFIED = "not-modified"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditional header fields of a request, empty where absent."""

    if_match: str = ""
    if_none_match: str = ""
    if_modified_since: str = ""
    if_unmodified_since: str = ""
    if_range: str = ""


@dataclass(frozen=True, slots=True)
class WriteConditions:
    """The conditional header fields of a request that writes, empty where absent."""

    if_match: str = ""
    if_none_match: str = ""

    def hold(self, etag: str | None) -> bool:
        """Whether the request may be done (RFC 9110 sections 13.1.1 and 13.1.2).

        Args:
            etag: of the current file, with its quotation marks; None where there is none.
        """
        if self.if_match and (etag is None or not _lists(self.if_match, etag, weak=False)):
            return False
        return etag is None or not self.if_none_match or not _lists(self.if_none_match, etag, weak=True)


ALWAYS = WriteConditions()


def judge(conditions: Conditions, etag: str, modified: int) -> Outcome:
    """What a GET or HEAD should do, in the order of RFC 9110 section 13.2.2.

    Args:
        etag: the strong entity tag, with its quotation marks.
        modified: Last-Modified in whole Unix seconds.
    """
    if conditions.if_match:
        if not _lists(conditions.if_match, etag, weak=False):
            return Outcome.FAILED
    elif conditions.if_unmodified_since:
        limit = http_date(conditions.if_unmodified_since)
        if limit is not None and modified > limit:
            return Outcome.FAILED
    if conditions.if_none_match:
        return Outcome.NOT_MODIFIED if _lists(conditions.if_none_match, etag, weak=True) else Outcome.PROCEED
    since = http_date(conditions.if_modified_since) if conditions.if_modified_since else None
    return Outcome.NOT_MODIFIED if since is not None and modified <= since else Outcome.PROCEED


def range_applies(conditions: Conditions, etag: str, modified: int) -> bool:
    """Whether Range counts: no If-Range, or one that names this very file by strong ETag or exact date."""
    value = conditions.if_range
    if not value:
        return True
    if value.startswith('"'):
        return value == etag
    return http_date(value) == modified


def http_date(text: str) -> int | None:
    """Unix seconds of an HTTP date in any of its three forms; None when it is not one."""
    try:
        parsed = parsedate_tz(text)
        # No zone, as in the asctime form, means GMT (RFC 9110 section 5.6.7), never the server's own.
        if parsed is None or not _is_possible(*parsed[:6]):
            return None
        return calendar.timegm(parsed[:9]) - (parsed[9] or 0)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _is_possible(year: int, month: int, day: int, hour: int, minute: int, second: int) -> bool:
    days = calendar.monthrange(year, month)[1]  # raises for an impossible month
    return 1 <= day <= days and 0 <= hour < 24 and 0 <= minute < 60 and 0 <= second <= 60


def _lists(header: str, etag: str, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    tags = (tag.strip() for tag in header.split(","))  # our own tags hold no comma
    return any((tag.removeprefix("W/") if weak else tag) == etag for tag in tags)
