"""For `gunicorn -c gunicorn.conf.py wsgi:application`. HMACFS_CONFIG names the configuration, else ./config.toml."""

import sys

from hmacfs.boot import gunicorn_options
from hmacfs.errors import ConfigError

try:
    globals().update(gunicorn_options())
except ConfigError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
