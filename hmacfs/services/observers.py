"""Several observers as one."""

from collections.abc import Callable, Sequence
from typing import Any

from hmacfs.services.observer import Exchange, Observer


class Observers(Observer):
    """Tells each of them, in their order. Args: listeners: none of them may raise, as ``Observer`` says."""

    def __init__(self, listeners: Sequence[Observer]) -> None:
        self._listeners = tuple(listeners)

    # Spelled out, because they stand on the way of every request.

    def answered(self, exchange: Exchange) -> None:
        for listener in self._listeners:
            listener.answered(exchange)

    def upload_completed(self, name: str, size: int, seconds: float, uploader: str = "", client: str = "") -> None:
        for listener in self._listeners:
            listener.upload_completed(name, size, seconds, uploader, client)


def _teller(name: str) -> Callable[..., None]:
    def tell(self: Observers, *args: Any, **options: Any) -> None:
        for listener in self._listeners:
            getattr(listener, name)(*args, **options)

    tell.__name__ = name
    return tell


for _name in [name for name in vars(Observer) if not name.startswith("_") and name not in vars(Observers)]:
    setattr(Observers, _name, _teller(_name))
