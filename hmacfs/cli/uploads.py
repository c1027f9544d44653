"""hmacfs uploads: what is being uploaded in pieces and not complete, as shared state knows it."""

import json
import time

import click

from hmacfs import units
from hmacfs.cli.common import config_errors_told, config_option, fail, settings_of, shared_state
from hmacfs.core import paths
from hmacfs.state.base import MAX_PAGE, SessionRow

_KEY_SHOWN = 8
"""Hex digits of a key, which is a digest already: enough to tell two uploads of one slot apart."""


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each upload, with bytes and Unix seconds.")
@config_errors_told
def uploads(config_path: str | None, as_json: bool) -> None:
    """List unfinished uploads, the newest last.

    What a server has received since it last recorded it is not counted.
    """
    now = int(time.time())
    with shared_state(settings_of(config_path)) as state:
        rows = state.list_sessions(now, MAX_PAGE)
        down = state.serving().down
    for row in sorted(rows, key=lambda row: row.started_ms):
        click.echo(_object(row) if as_json else _line(row, now))
    if not rows and not as_json and not down:
        click.echo("There are no unfinished uploads.")
    if len(rows) == MAX_PAGE:
        click.echo(f"hmacfs: only the {MAX_PAGE} that expire first are listed.", err=True)
    if down:  # each may hold rows that no other tier has
        reasons = ", ".join(f"{name} is down ({reason})" for name, reason in down.items())
        fail(f"the list may lack uploads that only this tier knows: {reasons}.")


def _line(row: SessionRow, now: int) -> str:
    return (
        f"{paths.shown(row.path.encode())}  {_percent(row)} % of {units.shown_size(row.total)}  {row.face}  "
        f"begun {units.shown_duration(now - row.started_ms // 1000)} ago  "
        f"expires in {units.shown_duration(row.expires_at - now)}  {row.key[:_KEY_SHOWN]}"
    )


def _object(row: SessionRow) -> str:
    told = {
        "path": row.path,
        "received": row.offset,
        "total": row.total,
        "percent": _percent(row),
        "type": row.content_type,
        "face": row.face,
        "started_at": row.started_ms // 1000,
        "expires_at": row.expires_at,
        "key": row.key[:_KEY_SHOWN],
    }
    return json.dumps(told, ensure_ascii=True)


def _percent(row: SessionRow) -> int:
    """Rounded down: an unfinished upload never shows 100."""
    return min(99, row.offset * 100 // row.total) if row.total else 0
