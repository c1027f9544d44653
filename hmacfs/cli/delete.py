"""hmacfs delete: a stored file removed through the server, as an XMPP server would have it done."""

import http.client
from urllib.parse import urlsplit

import click

from hmacfs.cli import connecting
from hmacfs.cli.common import USAGE_ERROR, config_errors_told, config_option, fail, public_url, settings_of
from hmacfs.cli.connecting import connection
from hmacfs.cli.signing import delete_target, expires_option, path_of


@click.command()
@config_option
@expires_option("How long the signature holds, where it is of v3; an hour where this is absent.")
@click.argument("link")
@config_errors_told
def delete(config_path: str | None, expires: int | None, link: str) -> None:
    """Delete the file behind LINK, which may also be its path alone.

    The server takes it with EnableV3, or with a DeleteSecret.
    """
    settings = settings_of(config_path)
    base = urlsplit(public_url(settings))
    target = delete_target(settings, path_of(settings, link, base.path), expires)
    if target is None:
        fail("The server deletes nothing: set EnableV3 = true, or a DeleteSecret.", status=USAGE_ERROR)
    server = connection(settings, base.scheme, base.netloc)
    try:
        server.request("DELETE", base.path + target, headers=connecting.AGENT)
        answer = server.getresponse()
        if answer.status != http.client.NO_CONTENT:
            fail(f"the deletion was refused: {connecting.refusal(answer)}")
    except (OSError, http.client.HTTPException) as error:
        fail(connecting.trouble(server, error).sentence)
    finally:
        server.close()
