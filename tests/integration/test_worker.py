"""The worker's process: one at a time, taken over when it is killed, never in the way of calls."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from aaa_server.radius import attribute
from aaa_server.radius.packet import DISCONNECT_REQUEST, decode, encode_reply
from aaa_server.storage.database import connect
from aaa_server.storage.jobs import WORKER_LOCK
from tests.integration.nas import CALLED, SECRET, Nas
from tests.integration.server import (
    SKY_AAA,
    STOP_SECONDS_MAX,
    WAIT_SECONDS_MAX,
    Server,
    free_port,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import Serving

WITH_WORKER = ("radius", "worker")


def leaders(server: Server) -> list[int]:
    """The database sessions that are the worker."""
    rows = server.query(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        WORKER_LOCK,
    )
    return [pid for (pid,) in rows]


def shifts(server: Server) -> list[int]:
    """The sessions of all workers' jobs: two a worker, for quick ones and for slow ones."""
    rows = server.query(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'sky-aaa' AND pid <> pg_backend_pid()"
    )
    return [pid for (pid,) in rows]


@contextlib.contextmanager
def worker_of(server: Server, *, metrics_port: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """One more `sky-aaa serve worker` on the server's database."""
    process = subprocess.Popen(
        [SKY_AAA, "--config", str(server.config), "serve", "worker"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"SKY_AAA_METRICS_PORT": str(metrics_port)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_serve_runs_the_worker_beside_and_takes_it_down(serving: Serving) -> None:
    with serving(services=WITH_WORKER) as server:
        wait_until(lambda: "ready" in server.said, "all of it runs")
        assert "the worker runs in a process of its own" in server.said
        [child] = server.children()
        wait_until(lambda: leaders(server), "there is a worker")
        wait_until(
            lambda: server.query("SELECT FROM job WHERE name = 'low-balance' AND runs > 0"),
            "it has done something",
        )
        assert server.stop() == 0
        assert not os.path.exists(f"/proc/{child}")
        wait_until(lambda: leaders(server) == [], "its session ends")


def test_a_worker_that_is_killed_is_followed_by_the_one_that_waits(serving: Serving) -> None:
    with serving() as server, worker_of(server) as first:
        [session] = wait_until(lambda: leaders(server), "the first is the worker")
        wait_until(lambda: len(shifts(server)) == 2, "the first is all there")
        with worker_of(server):
            wait_until(lambda: len(shifts(server)) == 4, "the second is there")
            assert leaders(server) == [session]
            first.send_signal(signal.SIGKILL)
            wait_until(
                lambda: leaders(server) not in ([], [session]), "the second took over", seconds=20
            )


def test_a_worker_whose_session_is_lost_becomes_it_again(serving: Serving) -> None:
    with serving() as server, worker_of(server):
        [session] = wait_until(lambda: leaders(server), "there is a worker")
        server.query("SELECT pg_terminate_backend(%s)", session)
        wait_until(lambda: leaders(server) not in ([], [session]), "there is one again")


def test_a_job_that_hangs_holds_up_no_call_and_no_shutdown(serving: Serving) -> None:
    with serving(services=WITH_WORKER) as server:
        wait_until(
            lambda: server.query("SELECT FROM job HAVING bool_and(runs > 0)"), "all have run once"
        )
        with contextlib.closing(connect(server.url)) as blocker, blocker.cursor() as cursor:
            cursor.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
            server.query("UPDATE job SET due_at = now() WHERE name = 'housekeeping'")
            wait_until(
                lambda: server.query(
                    "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database() AND query LIKE '%%DELETE%%event%%'"
                ),
                "the job hangs",
            )
            nas = Nas(server)
            assert nas.ask(nas.authorize("meanwhile", "bob", CALLED)).granted
            assert server.stop() == 0
            # What it did was undone, and it is due again.
            wait_until(lambda: leaders(server) == [], "its session ends")
            blocker.rollback()
        assert server.query("SELECT failures FROM job WHERE name = 'housekeeping'") == [(0,)]


def test_an_operator_ends_a_call_of_a_running_server(serving: Serving) -> None:
    with (
        serving(services=WITH_WORKER) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as switch,
    ):
        switch.bind(("127.0.0.2", 0))
        switch.settimeout(WAIT_SECONDS_MAX)
        port = switch.getsockname()[1]
        server.command("client", "set", "rfc", "--disconnect-port", str(port))
        nas = Nas(server, "127.0.0.2")
        assert nas.ask(nas.authorize("to-be-ended", "alice", CALLED)).granted
        [(call_id,)] = server.query("SELECT call_id FROM call")
        server.command("calls", "disconnect", str(call_id))
        datagram, sender = switch.recvfrom(4096)
        request = decode(datagram)
        assert request.code == DISCONNECT_REQUEST
        assert dict(request.attributes)[attribute.ACCT_SESSION_ID] == b"to-be-ended"
        switch.sendto(encode_reply(41, request, SECRET, (), message_authenticator=True), sender)
        wait_until(
            lambda: "acknowledged" in server.command("calls", "orders", "-o", "csv").stdout,
            "the answer is written down",
        )
        nas.ask(nas.report(2, "to-be-ended", "alice", CALLED, seconds=5))
        server.audit()


def test_the_worker_counts_what_it_did(serving: Serving) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"

    def page() -> str:
        try:
            with urllib.request.urlopen(url) as answer:
                text: str = answer.read().decode()
        except urllib.error.URLError:
            return ""
        return text

    with serving() as server, worker_of(server, metrics_port=port) as worker:
        wait_until(lambda: 'job_failures_total{job="expiry"}' in page(), "a job is counted")
        text = page()
        assert "sky_aaa_worker 1.0" in text
        assert 'sky_aaa_job_runs_total{job="expiry"} 1.0' in text
        assert 'sky_aaa_job_failures_total{job="expiry"} 0.0' in text
        worker.terminate()
        assert worker.wait(STOP_SECONDS_MAX) == 0


def test_the_books_are_right_when_a_month_is_detached(serving: Serving) -> None:
    with serving() as server:
        nas = Nas(server)
        for key in ("before", "after"):
            assert nas.ask(nas.authorize(key, "alice", CALLED)).granted
            nas.ask(nas.report(2, key, "alice", CALLED, seconds=30))
            server.audit()
            if key == "before":
                [(table,)] = server.query("SELECT cdr_detach_month(authorized_at) FROM cdr")
        assert server.query("SELECT session_key FROM cdr") == [("after",)]
        assert server.query("SELECT session_key FROM cdr_ever ORDER BY 1") == [
            ("after",),
            ("before",),
        ]
        assert table in server.query("SELECT string_agg(relname, ' ') FROM pg_class")[0][0]
