"""The WSGI application, for gunicorn and any other server; HMACFS_CONFIG names the configuration."""

from hmacfs.app import create_app_from_environment

application = create_app_from_environment()
