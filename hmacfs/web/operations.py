"""What operators and their programs ask: metrics and health, by a table of paths.

Answered only where the server says that the request came in on the operations listener (or on the main one, where that
serves both). On a listener of its own nothing else is to be had; on the main one every other path is a slot's.
"""

from collections.abc import Callable, Mapping

from hmacfs.errors import MethodNotAllowed, NotFound, RequestError
from hmacfs.web import errors, requests
from hmacfs.web.reply import Reply
from hmacfs.web.requests import Environ

IN_ENVIRON = "hmacfs.operations"
"""In the environ of a request that came in where these paths are answered. Only our own server sets it."""

METHODS = "GET, HEAD"

Answer = Callable[[Environ], Reply]
"""Answers GET; the body of HEAD is taken away behind it. May raise RequestError. Bounded in time by itself."""


class Operations:
    """The table.

    Args:
        answers: path to what answers it, exactly as it stands there.
        is_apart: on a listener of its own, where no path leads to a slot.
        count: told the method and the path of each answer; the path is one of the table, or empty.
    """

    def __init__(
        self,
        answers: Mapping[str, Answer],
        *,
        is_apart: bool,
        count: Callable[[str, str], None] = lambda _method, _path: None,
    ) -> None:
        self._answers = {path.encode(): answer for path, answer in answers.items()}
        self._is_apart = is_apart
        self._count = count

    def takes(self, environ: Environ) -> bool:
        """Whether the request is one for ``answer``."""
        return IN_ENVIRON in environ and (self._is_apart or requests.url_path(environ) in self._answers)

    def answer(self, environ: Environ) -> Reply:
        """The reply to a request that this ``takes``."""
        path = requests.url_path(environ)
        answer, method = self._answers.get(path), environ["REQUEST_METHOD"]
        self._count(method, path.decode() if answer is not None else "")
        try:
            if answer is None:
                raise NotFound
            if method not in ("GET", "HEAD"):
                raise MethodNotAllowed
            reply = answer(environ)
        except RequestError as error:
            reply = errors.reply(error, METHODS, as_json=requests.wants_json(environ))
        if method == "HEAD":
            reply.body = b""
        return reply
