"""The signature vectors, as data."""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "vectors" / "signatures.json"


def put_vectors() -> list[dict[str, Any]]:
    """Vectors that sign a PUT with v, v2 or token."""
    vectors: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["vectors"]
    return [vector for vector in vectors if vector["protocol"] in ("v", "v2", "token")]


def title(vector: dict[str, Any]) -> str:
    """For test ids."""
    return f"{vector['protocol']}-{vector['size']}-{vector.get('type', '')}-{vector['hex'][:6]}"
