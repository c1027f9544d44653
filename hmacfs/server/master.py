"""gunicorn run from our own command line instead of from its own."""

from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication


class Master(BaseApplication):  # type: ignore[misc]  # gunicorn is not typed
    """Our command line's gunicorn.

    Args:
        options: called at start and at every reload; answers gunicorn's settings.
        load: called in every worker; answers the WSGI application.
    """

    def __init__(self, options: Callable[[], dict[str, Any]], load: Callable[[], Any]) -> None:
        self._options = options
        self._load = load
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options().items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return self._load()
