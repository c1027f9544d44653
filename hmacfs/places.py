"""Settings to whether files of ours may lie where they are to: never where a download reaches them.

Whatever lies in StoreDir is served to who knows its name. A store inside StateDir, or beside the logs, harms nobody.
"""

import os

from hmacfs.errors import ConfigError
from hmacfs.settings import Settings


def check(settings: Settings, config: str) -> None:
    """Raises ConfigError with everything that ``problems`` finds."""
    if found := problems(settings, config):
        raise ConfigError(found)


def problems(settings: Settings, config: str) -> list[str]:
    """One sentence for each place that cannot be; symbolic links count as what they lead to.

    Args:
        config: path of the configuration file, which may be missing.
    """
    store = os.path.realpath(settings.store_dir)
    found = [
        f"{key}: {place} lies in StoreDir, from where everybody could download it. Choose another place."
        for key, place in _places(settings, config)
        if _is_within(os.path.realpath(place), store)
    ]
    if settings.log_file and settings.audit_log and _are_one(settings.log_file, settings.audit_log):
        found.append(f"AuditLog: {settings.audit_log} is LogFile too. Choose another file: programs read each of them.")
    return found


def _places(settings: Settings, config: str) -> list[tuple[str, str]]:
    metrics = settings.metrics_port
    named = [
        ("StateDir", settings.state_dir),
        ("LogFile", settings.log_file),
        ("AuditLog", settings.audit_log),
        ("SecretFile", settings.secret_file),
        ("ListenPort", settings.listen_port.path),
        ("MetricsPort", metrics.path if metrics is not None and settings.metrics_enabled else ""),
        ("the configuration file", config if os.path.exists(config) else ""),
    ]
    return [(key, place) for key, place in named if place]


def _is_within(place: str, folder: str) -> bool:
    return os.path.commonpath((place, folder)) == folder


def _are_one(first: str, second: str) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)
