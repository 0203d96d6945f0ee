"""`sky-aaa switch-agent` in a process of its own, beside a switch and a server of the test's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from tests.integration.server import (
    SKY_AAA,
    STOP_SECONDS_MAX,
    WAIT_SECONDS_MAX,
    free_port,
    wait_until,
)
from tests.switch_agent.freeswitch import PASSWORD

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.server import Server
    from tests.switch_agent.freeswitch import FreeSwitch


class Agent:
    """The agent; `options` are further keys of [switch_agent]."""

    def __init__(
        self, folder: Path, switch: FreeSwitch, server: Server, bind: str, **options: object
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.switch = switch
        self.bind = bind
        self.order_port = free_port()
        self.spool = folder / "spool"
        self.config = folder / "agent.toml"
        settings: dict[str, object] = {
            "event_socket_port": switch.port,
            "event_socket_password": PASSWORD,
            "auth_port": server.auth_port,
            "acct_port": server.acct_port,
            "secret": "testing123",
            "bind": bind,
            "order_port": self.order_port,
            "timeout_seconds": 1,
            "reconcile_seconds": 1,
            "lost_seconds": 1,
            "spool": str(self.spool),
        } | options
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        self.config.write_text(
            "\n".join(["[metrics]", "port = 0", "[switch_agent]", *lines, ""]), encoding="utf-8"
        )
        self._out = folder / "stdout"
        self._log = folder / "stderr"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def start(self, *, connects: bool = True) -> None:
        assert self.process is None, "it runs"
        with self._out.open("wb") as out, self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [SKY_AAA, "--config", str(self.config), "switch-agent"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env={k: v for k, v in os.environ.items() if not k.startswith("SKY_AAA_")},
                cwd=self.config.parent,
            )
        wait_until(self._ready, "the agent is ready")
        if connects:
            self.connected()

    def connected(self) -> None:
        """Wait until it listens to the switch's events, and knows that it does."""
        wait_until(lambda: self.switch.heard, "the agent listens to events")
        self.wait_for("sky_aaa_agent_connected", 1)

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended:\n{self.log}"
        return "ready" in self._out.read_text(encoding="utf-8")

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        finally:
            self.process = None

    def page(self, name: str) -> tuple[int, str]:
        """Status and text of a page of its metrics port."""
        port = int(self._out.read_text(encoding="utf-8").split("port ")[1].split()[0])
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/{name}", timeout=WAIT_SECONDS_MAX
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def wait_for(self, name: str, value: int) -> None:
        """Until the metric has that value."""
        wait_until(lambda: self.metric(name) == value, f"{name} is {value}")

    def metric(self, name: str) -> float:
        for line in self.page("metrics")[1].splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise AssertionError(f"there is no {name}")
