"""`twistd -ny twistd.tac` runs the server in the foreground."""

from aaa_server.config import load_config
from aaa_server.service import make_application

application = make_application(load_config())
