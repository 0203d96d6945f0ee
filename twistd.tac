"""`twistd -ny twistd.tac` runs the server in the foreground."""

from aaa_server import compiled
from aaa_server.config import load_config

compiled.use()
from aaa_server.service import make_application  # noqa: E402 - it imports the hot path

application = make_application(load_config())
