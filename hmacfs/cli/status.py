"""hmacfs status: how a running server is and what it does, once or as a view that stays."""

import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

from hmacfs.cli import statusview
from hmacfs.cli.asking import NoAnswer, address_of, ask
from hmacfs.cli.common import config_errors_told, config_option, fail, settings_of
from hmacfs.core.health import Condition
from hmacfs.services.status import Status, status_object
from hmacfs.units import Address

LEAST_SECONDS, MOST_SECONDS = 0.2, 3600.0

_EXIT: dict[str, int] = {Condition.READY: 0, Condition.DEGRADED: 3, Condition.NOT_READY: 4}


class _Seconds(click.FloatRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):  # which is in every range
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


class _Shows(Protocol):
    """What a view does with each answer."""

    def __call__(self, answer: Status | NoAnswer) -> None: ...


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with bytes and seconds.")
@click.option(
    "--watch",
    "seconds",
    type=_Seconds(LEAST_SECONDS, MOST_SECONDS),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Ask again every 2 s, or so many, until Ctrl-C.",
)
@config_errors_told
def status(config_path: str | None, as_json: bool, seconds: float | None) -> None:
    """Show how the running server is, and what it does.

    It is asked at MetricsPort, so this needs a running server and no rights on its files.

    The exit status is 0 when it is ready, 1 when it does not answer, 3 when something wants a person but uploads are
    taken, and 4 when uploads are refused; after --watch it is 0.
    """
    address = address_of(settings_of(config_path))
    if seconds is not None:
        return _watch(address, seconds, as_json=as_json)
    try:
        now = ask(address)
    except NoAnswer as error:
        fail(f"{error}")
    click.echo(_text(now, as_json=as_json))
    sys.exit(_EXIT.get(now.condition, _EXIT[Condition.NOT_READY]))


def _watch(address: Address, seconds: float, *, as_json: bool) -> None:
    signal.signal(signal.SIGTERM, _end)
    try:
        with _pages(as_json=as_json) if as_json or not sys.stdout.isatty() else _screen(address) as show:
            while True:
                show(_asked(address))
                time.sleep(seconds)
    except KeyboardInterrupt:
        pass  # this is how it is meant to end


def _end(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _asked(address: Address) -> Status | NoAnswer:
    try:
        return ask(address)
    except NoAnswer as error:  # it may be about to come back
        return error


@contextmanager
def _pages(*, as_json: bool) -> Iterator[_Shows]:
    """For a file or another program: one text behind the other."""

    def show(answer: Status | NoAnswer) -> None:
        if isinstance(answer, NoAnswer):
            click.echo(f"hmacfs: {answer}", err=True)
        else:
            click.echo(_text(answer, as_json=as_json) + ("" if as_json else "\n"))

    yield show


@contextmanager
def _screen(address: Address) -> Iterator[_Shows]:
    """For a terminal: drawn in place, and what it showed last stays there."""
    from rich.live import Live  # a tenth of a second that nobody else waits for
    from rich.text import Text

    with Live(auto_refresh=False) as live:

        def show(answer: Status | NoAnswer) -> None:
            drawn = Text(str(answer)) if isinstance(answer, NoAnswer) else statusview.table(answer, str(address))
            live.update(drawn, refresh=True)

        yield show


def _text(now: Status, *, as_json: bool) -> str:
    return json.dumps(status_object(now)) if as_json else "\n".join(statusview.lines(now))
