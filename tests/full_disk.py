"""A disk that is full, for tests of what is written."""

import resource
from contextlib import contextmanager


@contextmanager
def full_disk(room):
    """No file grows beyond `room` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
