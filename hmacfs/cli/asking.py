"""Asking a running server how it is, over its operations listener."""

import http.client
import json

from hmacfs.cli.common import USAGE_ERROR, fail
from hmacfs.cli.connecting import AGENT, connection_to, trouble
from hmacfs.services.status import Status, status_of
from hmacfs.settings import Settings, operations_address
from hmacfs.units import Address

SECONDS = 10.0
"""Of silence. The server itself answers within about two, whatever its disk does."""

_TARGET = "/status.json"
_MOST_BYTES = 1024 * 1024


class NoAnswer(Exception):
    """Args: one sentence for people."""


def address_of(settings: Settings) -> Address:
    """Where to ask. Ends the command where such questions are not answered at all."""
    if not settings.metrics_enabled:
        fail("MetricsEnabled is false: the server does not answer such questions.", status=USAGE_ERROR)
    return operations_address(settings) or settings.listen_port


def ask(address: Address) -> Status:
    """What the server at ``address`` does now.

    Raises:
        NoAnswer: nobody listens there, it does not answer in time, or it is another server.
    """
    connection = connection_to(address, SECONDS)
    try:
        connection.request("GET", _TARGET, headers={**AGENT, "Accept": "application/json", "Connection": "close"})
        response = connection.getresponse()
        body = response.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"no answer: {trouble(connection, error).sentence}") from error
    finally:
        connection.close()
    try:
        if response.status != http.HTTPStatus.OK:
            raise ValueError(response.status)
        return status_of(json.loads(body))
    except (ValueError, RecursionError) as error:  # JSON may be nested without end
        sentence = f"what answers at {address} is no hmacfs of this version. Does MetricsPort name the right address?"
        raise NoAnswer(sentence) from error
