"""hmacfs bans: who is banned, in shared state. Running servers follow within a second or two."""

import time
from typing import TYPE_CHECKING

import click

from hmacfs import units
from hmacfs.cli.common import (
    USAGE_ERROR,
    config_errors_told,
    config_option,
    fail,
    open_audit_log,
    settings_of,
    shared_state,
)
from hmacfs.core.bans import FOREVER, Ban, lifted
from hmacfs.core.clientaddr import ProxyTrust, counted, folded
from hmacfs.settings import Settings
from hmacfs.telemetry import audit

if TYPE_CHECKING:
    from hmacfs.state.failover import SharedState


class _Duration(click.ParamType[int]):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return units.parse_duration(str(value))
        except ValueError as error:
            self.fail(f"{value!r} is none of: {error}", param, ctx)


@click.group()
def bans() -> None:
    """List, lift and add bans of client addresses."""


@bans.command(name="list")
@config_option
@config_errors_told
def list_bans(config_path: str | None) -> None:
    """List banned addresses, the first to end first.

    While shared state cannot be reached a server bans by itself, and that is not listed.
    """
    now = time.time()
    with shared_state(settings_of(config_path)) as state:
        rows = state.bans.read("").bans or []
    active = sorted((ban for ban in rows if ban.is_active(now)), key=lambda ban: (ban.until, ban.address))
    for ban in active:
        click.echo(_line(ban, int(now)))
    if not active:
        click.echo("Nobody is banned.")


@bans.command()
@config_option
@click.option("--all", "everybody", is_flag=True, help="Every ban.")
@click.argument("address", required=False)
@config_errors_told
def lift(config_path: str | None, everybody: bool, address: str | None) -> None:
    """Lift the ban of ADDRESS, which begins anew then, or every ban."""
    if everybody == (address is not None):
        fail("name one ADDRESS, or --all.", status=USAGE_ERROR)
    settings = settings_of(config_path)
    key = _key(address) if address is not None else ""
    now = time.time()
    with shared_state(settings) as state:
        known = state.bans.read("").bans or []
        meant = [ban for ban in known if not ban.is_lift and (everybody or ban.address == key)]
        open_audit_log(settings)
        state.bans.lift([lifted(ban, int(now)) for ban in meant])
        away = _away(state)
    active = [ban.address for ban in meant if ban.is_active(now)]
    for name in active:
        audit.write("lift", address=name, reason="by hand")
        click.echo(f"Lifted: {name}")
    if active and away:
        click.echo(
            f"{away} not reached: the server on this machine lifts it there too, within a minute of the return. "
            "Servers on other machines keep the ban until then."
        )
    if not active:
        click.echo("Nobody was banned." if everybody else f"{key} was not banned.")


@bans.command()
@config_option
@click.option("--for", "seconds", type=_Duration(), help="Such as 1h or 30d; for ever where this is absent.")
@click.argument("address")
@config_errors_told
def add(config_path: str | None, seconds: int | None, address: str) -> None:
    """Ban ADDRESS; an IPv6 address stands for its /64."""
    settings, key, now = settings_of(config_path), _key(address), int(time.time())
    if _is_spared(settings, address):
        fail(f"{address} is in TrustedProxies or NeverBan: such addresses are never banned.")
    if seconds == 0:
        fail("a ban of no length bans nobody: give --for at least 1s.", status=USAGE_ERROR)
    ban = Ban(key, now, FOREVER if seconds is None else min(FOREVER, now + seconds), 0)
    with shared_state(settings) as state:
        open_audit_log(settings)
        state.bans.save([ban])
    length: int | str = "until-lifted" if ban.is_endless else ban.until - now
    audit.write("ban", address=key, seconds=length, reason="by hand")
    click.echo(f"Banned: {_line(ban, now)}")


def _away(state: "SharedState") -> str:
    """The tiers above the one that serves, as the subject of a sentence; empty where it is the highest."""
    serving = state.serving()
    above = state.names[: state.names.index(serving.sessions)] if serving.sessions in state.names else state.names
    return f"{' and '.join(above)} {'was' if len(above) == 1 else 'were'}" if above else ""


def _key(address: str) -> str:
    """What is counted for ``address``, which may be such a key already, as ``list`` prints it."""
    plain = address.removesuffix("/64") if ":" in address else address
    if folded(plain) is None:
        fail(f"{address!r} is no address.", status=USAGE_ERROR)
    return counted(plain)


def _is_spared(settings: Settings, address: str) -> bool:
    return ProxyTrust((*settings.trusted_proxies, *settings.never_ban)).trusts(address.removesuffix("/64"))


def _line(ban: Ban, now: int) -> str:
    end = "until it is lifted" if ban.is_endless else f"for {units.shown_duration(ban.until - now)} more"
    reason = f"block {ban.times} in a row" if ban.times else "by hand"
    return f"{ban.address}  {end}  {reason}  begun {units.shown_duration(now - ban.since)} ago"
