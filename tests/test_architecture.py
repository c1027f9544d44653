"""Imports point down: the table of ARCHITECTURE.md, checked over the syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hmacfs"

# Layer: (what of ours it may import, top-level modules it must not import). The longest matching prefix is a module's
# layer; an import is allowed when one of the entries is its prefix.
FRAMEWORKS = {"flask", "werkzeug", "gunicorn"}
DRIVERS = {"redis", "psycopg2", "MySQLdb", "sqlalchemy", "sqlite3"}
IMPURE = {"time", "os", "socket", "random", "secrets", "datetime", "threading", "subprocess", "gevent", "io", "pathlib"}
GROUND = {"errors", "kinds", "units"}
LAYERS: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), FRAMEWORKS | DRIVERS | IMPURE),
    "units": (set(), FRAMEWORKS | DRIVERS | IMPURE),
    "kinds": ({"units", "state.addresses"}, FRAMEWORKS | DRIVERS | IMPURE),
    "settings": (GROUND, FRAMEWORKS | DRIVERS | IMPURE),
    "configfile": (GROUND | {"settings"}, FRAMEWORKS | DRIVERS),
    "offload": (set(), FRAMEWORKS | DRIVERS),
    "core": (GROUND | {"core"}, FRAMEWORKS | DRIVERS | IMPURE | {"prometheus_client"}),
    "storage.base": ({"core", "errors"}, FRAMEWORKS | DRIVERS),
    "storage": ({"core", "errors", "offload", "storage"}, FRAMEWORKS | DRIVERS),
    "services": (
        {"core", "errors", "storage.base", "state.base", "services"},
        FRAMEWORKS | DRIVERS | {"prometheus_client", "prometheus_flask_exporter"},
    ),
    "telemetry": (
        {"services.observer", "errors", "settings", "core.paths", "telemetry"},
        {"flask", "werkzeug"} | DRIVERS,
    ),
    "web": ({"services", "core", "errors", "web", "storage.base"}, {"gunicorn"} | DRIVERS),
    "state.base": ({"core", "errors"}, FRAMEWORKS | DRIVERS | IMPURE),
    "state.addresses": (set(), FRAMEWORKS | DRIVERS | IMPURE),
    "state": ({"state", "core", "errors", "offload"}, FRAMEWORKS),
    "server": ({"settings", "errors", "units", "offload", "server"}, {"flask", "werkzeug"} | DRIVERS),
    "tiers": ({"errors", "offload", "settings", "state"}, FRAMEWORKS),
    "secretring": ({"configfile", "core.rotation", "errors", "settings", "storage"}, FRAMEWORKS | DRIVERS),
    "retention": ({"core", "services", "settings", "state.base", "storage"}, FRAMEWORKS | DRIVERS),
    "guards": (
        {"core", "errors", "server.cpus", "services", "settings", "state", "storage.base"},
        FRAMEWORKS | DRIVERS,
    ),
    "workshop": (
        {"core", "guards", "offload", "retention", "services", "settings", "state", "storage", "telemetry", "tiers"},
        FRAMEWORKS | DRIVERS,
    ),
    "resumption": ({"services", "settings", "storage", "workshop"}, FRAMEWORKS | DRIVERS),
    "operations": (
        {"__version__", "core", "errors", "offload", "services", "settings", "state", "storage", "telemetry", "web"},
        FRAMEWORKS | DRIVERS,
    ),
    "watching": (
        {"__version__", "core", "offload", "operations", "services", "settings", "storage", "telemetry", "web"}
        | {"workshop"},
        FRAMEWORKS | DRIVERS,
    ),
    "monitoring": ({"services", "settings", "state", "telemetry"}, FRAMEWORKS | DRIVERS),
    "places": ({"errors", "settings"}, FRAMEWORKS | DRIVERS),
    "rehearsal": ({"configfile", "errors", "storage", "app"}, FRAMEWORKS | DRIVERS),
    "boot": (
        {"__version__", "configfile", "core.rotation", "errors", "places", "rehearsal", "retention", "secretring"}
        | {"settings"}
        | {"server", "state", "storage", "telemetry"},
        {"flask", "werkzeug", "redis", "ssl", "requests", "urllib3", "gevent"},
    ),
    "app": ({""}, {"gunicorn"}),
    "cli": ({""}, {"gunicorn"}),
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def layer_of(module: str) -> str:
    fitting = [layer for layer in LAYERS if module == layer or module.startswith(layer + ".")]
    assert fitting, f"{module} has no layer: give it a row in ARCHITECTURE.md and here"
    return max(fitting, key=len)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(module: str, imported: list[str]) -> list[str]:
    allowed, banned = LAYERS[layer_of(module)]
    found = []
    for name in imported:
        if name.startswith("hmacfs."):
            target = name.removeprefix("hmacfs.")
            if "" not in allowed and not any(target == entry or target.startswith(entry + ".") for entry in allowed):
                found.append(f"{module} imports {target}")
        elif name.partition(".")[0] in banned:
            found.append(f"{module} imports {name}")
    return found


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    assert violations(dotted(path), list(imports(path))) == []


def test_nothing_below_imports_the_top() -> None:
    tops = ("hmacfs.app", "hmacfs.cli", "hmacfs.boot")
    below = [path for path in modules() if layer_of(dotted(path)) not in ("app", "cli", "boot", "rehearsal")]

    found = [(dotted(path), name) for path in below for name in imports(path) if name.startswith(tops)]

    assert found == []


def test_only_its_folder_knows_a_framework() -> None:
    homes = {
        "flask": {"web", "app"},
        "werkzeug": {"web", "app"},
        "gunicorn": {"server"},
        "toml": {"cli"},
        "tomllib": {"configfile"},
    }

    for path in modules():
        for name in imports(path):
            top = name.partition(".")[0]
            if top in homes:
                assert dotted(path).partition(".")[0] in homes[top], f"{dotted(path)} imports {top}"


def test_the_checker_sees_a_violation() -> None:
    assert violations("core.paths", ["os"]) == ["core.paths imports os"]
    assert violations("services.uploads", ["hmacfs.storage.local"]) == ["services.uploads imports storage.local"]
    assert violations("web.files", ["hmacfs.settings.Settings"]) == ["web.files imports settings.Settings"]


def test_init_files_are_empty_but_for_the_version() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        text = path.read_text(encoding="utf-8")
        assert text == "" or path.parent == PACKAGE


def test_only_fsutil_links_and_renames_and_the_embedded_tier_its_own_file() -> None:
    verbs = ("os.link(", "os.rename(", "os.replace(", "os.symlink(")

    for path in modules():
        if dotted(path) not in ("storage.fsutil", "state.statefile"):
            assert not any(verb in path.read_text(encoding="utf-8") for verb in verbs), dotted(path)


def test_only_fsutil_syncs_so_that_every_sync_is_measured() -> None:
    for path in modules():
        if dotted(path) != "storage.fsutil":
            text = path.read_text(encoding="utf-8")
            assert not any(verb in text for verb in ("os.fsync", "os.fdatasync", "os.sync(")), dotted(path)
