"""Slow sweeps, collected by ``make prove`` alone."""

import os

collect_ignore_glob = [] if os.environ.get("HMACFS_PROVE") else ["test_*.py"]
