"""The secrets that verify signatures."""


class Keyring:
    """Keys for verification. It has no repr that could show one.

    Args:
        current: the secret that signs and verifies, as text; its UTF-8 bytes are the key.
    """

    def __init__(self, current: str) -> None:
        self._keys = (current.encode(),)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Every key that verifies, the current one first."""
        return self._keys
