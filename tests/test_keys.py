"""Every key that works has a test named after it, in a file that sets the key.

Only names are looked at here, in the syntax trees. Whether such a test sees what the key does, and not just how it is
read, is for people to judge; the tests of reading count for nothing.
"""

import ast
from pathlib import Path

from hmacfs.settings import keys

TESTS = Path(__file__).parent
ABOUT_READING = {"test_settings.py", "test_configfile.py", "test_config_docs.py"}
"""These see how a key is spelled and parsed, and not what it does."""

ON_DEMAND = TESTS / "prove"
"""`make test` skips what is in there."""

NAMES = {key.attribute: key.name for key in keys() if key.works}
"""A key as a test spells it, "unix_socket_mode", to its own spelling."""

LONGEST = max(name.count("_") + 1 for name in NAMES)


def named_in(test: str) -> set[str]:
    """Keys that the name of a test contains in whole words.

    Where several fit the longest one counts: "unix_socket_mode" is not about UnixSocket. A key of one word counts at
    the very beginning alone, because "secret" is said of much else.
    """
    words = test.removeprefix("test_").split("_")
    found, at = set(), 0
    while at < len(words):
        fitting = ("_".join(words[at : at + length]) for length in range(LONGEST, 0, -1))
        name = next((name for name in fitting if name in NAMES), "")
        if name and ("_" in name or at == 0):
            found.add(NAMES[name])
        at += name.count("_") + 1
    return found


def texts(tree: ast.Module) -> set[str]:
    """Keyword arguments and texts of a file: a key that it gives to a server is one of them."""
    nodes = list(ast.walk(tree))
    keywords = {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    return keywords | {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def seen_in(file: Path) -> set[str]:
    """Keys that a file sets and names a test after."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return set[str]().union(*(named_in(name) for name in functions if name.startswith("test_"))) & texts(tree)


def files() -> list[Path]:
    found = TESTS.rglob("test_*.py")
    return [file for file in found if file.name not in ABOUT_READING and ON_DEMAND not in file.parents]


def test_every_working_key_has_a_test_of_its_effect_named_after_it() -> None:
    seen = set[str]().union(*map(seen_in, files()))

    missing = [name for name in NAMES.values() if name not in seen]
    assert not missing, f"no test is named after {', '.join(missing)}"


def test_a_name_is_about_the_longest_keys_that_it_contains() -> None:
    assert named_in("test_unix_socket_mode_is_that_of_the_socket") == {"UnixSocketMode"}
    assert named_in("test_file_mode_and_dir_mode_hold") == {"FileMode", "DirMode"}
    assert named_in("test_request_rate_limit") == {"RequestRateLimit"}
    assert named_in("test_a_file_modern_enough") == set()


def test_a_name_is_about_a_key_of_one_word_where_it_begins_with_it() -> None:
    assert named_in("test_secret_signs_uploads") == {"Secret"}
    assert named_in("test_secret_file_is_read") == {"SecretFile"}
    assert named_in("test_a_new_secret_is_made") == set()
