"""hmacfs: the server behind the upload links that XMPP servers sign."""

__version__ = "0.1.0"
