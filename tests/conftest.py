"""What every test shares."""

from hypothesis import settings

# A shared machine pauses for longer than hypothesis's deadline of 200 ms now and then; a slow example is no failure.
settings.register_profile("hmacfs", deadline=None)
settings.load_profile("hmacfs")
