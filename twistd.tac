"""`twistd -ny twistd.tac` runs the server in the foreground.

One that cannot start says why on one line and exits with 1, as `sky-aaa serve` does.
"""

import atexit
import os
import sys

from twisted.application.service import IServiceCollection

from aaa_server import compiled
from aaa_server.config import ConfigError, load_config

compiled.use()
from aaa_server.service import make_application  # noqa: E402 - it imports the hot path


def fail():
    """End the process with 1: when nobody stopped its reactor by a signal, twistd exits with 0."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def watch(started):
    """Called with the server once it answers, with None after it has said why it cannot."""
    if started is None:
        # Then twistd has closed everything, and its file of the process's number is gone.
        atexit.register(fail)
    return started


try:
    application = make_application(load_config())
except ConfigError as error:
    sys.exit(f"sky-aaa: {error}")
for server in IServiceCollection(application):
    server.ready.addCallback(watch)
