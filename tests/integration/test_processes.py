"""Starting, stopping and dying: of one process and of several, by `sky-aaa` and by twistd."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.nas import CALLED, Nas
from tests.integration.server import (
    ROOT,
    SKY_AAA,
    STOP_SECONDS_MAX,
    WAIT_SECONDS_MAX,
    alive,
    sockets_on,
    wait_until,
)

if TYPE_CHECKING:
    from tests.integration.conftest import Serving
    from tests.integration.server import Server

TWISTD = str(Path(sys.executable).with_name("twistd"))
SIGNALS = [signal.SIGINT, signal.SIGTERM]
START_SECONDS_MAX = 5.0


def answers(server: Server, key: str) -> None:
    nas = Nas(server)
    assert nas.ask(nas.authorize(key, "bob", CALLED)).granted


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_signal_ends_the_server_cleanly(
    serving: Serving, processes: int, number: signal.Signals
) -> None:
    with serving(processes=processes) as server:
        answers(server, "before")
        assert "ready; Ctrl-C stops the server" in server.said
        children = server.children()
        assert server.stop(number) == 0
        assert not any(map(alive, children))
        assert sockets_on(server.auth_port) == sockets_on(server.acct_port) == 0
        assert "critical" not in server.log
        assert " error " not in server.log


def test_ctrl_c_reaches_all_processes_of_a_terminal_and_they_end_cleanly(serving: Serving) -> None:
    with serving(processes=3) as server:
        answers(server, "before")
        assert server.process is not None
        children = server.children()
        assert len(children) == 2
        # As a terminal does it; the server leads a group of its own here.
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.process.wait(STOP_SECONDS_MAX) == 0
        server.process = None
        assert not any(map(alive, children))
        assert "critical" not in server.log


def test_a_further_process_that_dies_is_started_again(serving: Serving) -> None:
    with serving(processes=2) as server:
        [child] = server.children()
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: server.children() not in ([], [child]), "there is another one")
        wait_until(lambda: sockets_on(server.auth_port) == 2, "both listen")
        for number in range(20):
            answers(server, f"after-{number}")


def test_further_processes_end_when_the_first_one_is_killed(serving: Serving) -> None:
    with serving(processes=3) as server:
        children = server.children()
        assert len(children) == 2
        server.kill()
        wait_until(lambda: not any(map(alive, children)), "nobody is left behind")
        assert sockets_on(server.auth_port) == sockets_on(server.acct_port) == 0
        server.start()
        answers(server, "again")


def test_a_port_that_another_server_has_is_refused_by_name(serving: Serving) -> None:
    with serving() as server:
        done = subprocess.run(
            [SKY_AAA, "--config", str(server.config), "serve"],
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_SECONDS_MAX,
        )
        assert done.returncode == 1, done.stderr
        assert f"127.0.0.1 port {server.auth_port}/udp" in done.stderr
        assert "Traceback" not in done.stderr
        answers(server, "undisturbed")


@pytest.mark.parametrize("processes", [1, 2])
def test_twistd_runs_the_same_application(serving: Serving, processes: int) -> None:
    with serving(processes=processes) as server:
        server.stop()
        pid_file = f"--pidfile={server.config.parent / 'twistd.pid'}"
        server.start(
            [TWISTD, pid_file, "-ny", str(ROOT / "twistd.tac")],
            environ={
                "SKY_AAA_DATABASE_URL": server.url,
                "SKY_AAA_SECRETS_KEY_FILE": server.key_file,
                "SKY_AAA_RADIUS_ADDRESS": "127.0.0.1",
                "SKY_AAA_RADIUS_AUTH_PORT": str(server.auth_port),
                "SKY_AAA_RADIUS_ACCT_PORT": str(server.acct_port),
                "SKY_AAA_RADIUS_PROCESSES": str(processes),
                "SKY_AAA_METRICS_PORT": "0",
                "SKY_AAA_CONFIG": "",
            },
        )
        answers(server, "by-twistd")
        # twistd ends by the signal that it was sent, once all is closed.
        assert server.stop(signal.SIGINT) == -signal.SIGINT
        assert "Traceback" not in server.said


def run_twistd(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """What twistd does in this environment; it is to end by itself."""
    return subprocess.run(
        [TWISTD, "-ny", str(ROOT / "twistd.tac")],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS_MAX,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **environ},
    )


def test_twistd_without_its_database_says_why_and_fails(tmp_path: Path) -> None:
    done = run_twistd(tmp_path, SKY_AAA_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert re.search(r"Cannot start: .*127\.0\.0\.1.*port 1", done.stdout), done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_twistd_whose_port_is_taken_says_why_and_fails(serving: Serving, tmp_path: Path) -> None:
    with serving() as server:
        done = run_twistd(
            tmp_path,
            SKY_AAA_DATABASE_URL=server.url,
            SKY_AAA_SECRETS_KEY_FILE=server.key_file,
            SKY_AAA_RADIUS_ADDRESS="127.0.0.1",
            SKY_AAA_RADIUS_AUTH_PORT=str(server.auth_port),
            SKY_AAA_METRICS_PORT="0",
        )
        assert f"127.0.0.1 port {server.auth_port}/udp" in done.stdout, done.stdout
        assert "Traceback" not in done.stdout + done.stderr
        assert done.returncode == 1


def test_twistd_with_a_wrong_setting_says_which_on_one_line(tmp_path: Path) -> None:
    done = run_twistd(tmp_path, SKY_AAA_RADIUS_AUTH_PORT="abc")
    assert done.stderr == "sky-aaa: SKY_AAA_RADIUS_AUTH_PORT: 'abc' is not a whole number\n"
    assert done.returncode == 1


def test_it_starts_quickly(serving: Serving) -> None:
    with serving() as server:
        taken = []
        for _ in range(3):
            server.stop()
            begun = time.monotonic()
            server.start()
            taken.append(time.monotonic() - begun)
        # What it takes itself it takes each time.
        assert min(taken) < START_SECONDS_MAX


def test_a_wildcard_address_answers_from_where_it_was_asked(serving: Serving) -> None:
    with serving(addresses=("0.0.0.0", "::")) as server:
        for target in ("127.0.0.1", "127.0.0.44"):
            nas = Nas(server, target=target)
            assert nas.ask(nas.authorize(f"to-{target}", "bob", CALLED)).granted
        six = Nas(server, "::1")
        assert six.ask(six.authorize("to-six", "bob", CALLED)).granted
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.settimeout(WAIT_SECONDS_MAX)
            question = Nas(server).authorize("plain", "bob", CALLED)
            plain.sendto(question.datagram, ("127.0.0.55", question.port))
            assert plain.recvfrom(4096)[1] == ("127.0.0.55", question.port)


def test_a_signal_while_it_starts_ends_it_without_a_traceback(serving: Serving) -> None:
    with serving(processes=2) as server:
        server.stop()
        command = [SKY_AAA, "--config", str(server.config), "serve"]
        for tenths in range(3, 15, 2):
            begun = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
            )
            time.sleep(tenths / 10)
            os.killpg(begun.pid, signal.SIGTERM)
            said, _ = begun.communicate(timeout=WAIT_SECONDS_MAX)
            # Until Python has come to the reactor, a signal simply ends it.
            assert begun.returncode in (0, 1, -signal.SIGTERM), said
            assert b"Traceback" not in said, said.decode()
        assert sockets_on(server.auth_port) == 0


def test_with_json_every_line_on_stdout_is_an_object(serving: Serving) -> None:
    with serving() as server:
        server.stop()
        command = [SKY_AAA, "--config", str(server.config), "serve", "--log", "json"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            said = next(line for line in process.stderr if line.startswith("ready"))
            assert said == "ready; Ctrl-C stops the server\n"
            process.terminate()
            lines = [json.loads(line) for line in process.stdout]
        assert all(line.keys() >= {"time", "level", "namespace", "message"} for line in lines)
        assert lines
