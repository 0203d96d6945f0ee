"""`sky-aaa serve`: run the server in the foreground until Ctrl-C."""

from __future__ import annotations

import dataclasses
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from aaa_server import compiled
from aaa_server.cli.context import Failure, Session, pass_session
from aaa_server.config import SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure as TwistedFailure

    from aaa_server.service import SkyAaa


@click.command()
@click.argument("services", nargs=-1, type=click.Choice(SERVICES))
@click.option("--processes", type=click.IntRange(1, 256), help="How many share the ports.")
@click.option("--demo", is_flag=True, help="Load the demo data into a database without accounts.")
@click.option("--log", "log_format", type=click.Choice(["text", "json"]), help="Of the log lines.")
@click.option("--sibling", is_flag=True, hidden=True, help="A further process of a server.")
@pass_session
def serve(
    session: Session,
    services: tuple[str, ...],
    processes: int | None,
    demo: bool,
    log_format: str | None,
    sibling: bool,
) -> None:
    """Run the server, all its services or those named, and the database if it is embedded."""
    session.operator_only("serve")
    if log_format is not None:
        # Before the configuration is read, and for further processes too.
        os.environ["SKY_AAA_LOG_FORMAT"] = log_format
    hot_path = compiled.use()
    from twisted.internet import reactor as started

    from aaa_server.log import start_logging
    from aaa_server.service import SkyAaa, stop_reactor

    config = session.config
    if services:
        config = dataclasses.replace(config, services=services)
    if processes is not None:
        config = dataclasses.replace(
            config, radius=dataclasses.replace(config.radius, processes=processes)
        )
    start_logging(config.log.format, sys.stdout, debug=session.debug)
    reactor: Any = started
    options = [] if session.config_path is None else ["--config", str(session.config_path)]
    sky = SkyAaa(config, reactor=reactor, demo=demo, stand_alone=not sibling, options=options)
    problem: list[str] = []

    def cannot(failure: TwistedFailure) -> None:
        problem.append(failure.getErrorMessage())
        if session.debug:
            click.echo(failure.getTraceback(), err=True)
        stop_reactor(reactor)

    if not sibling:
        # Whoever reads JSON lines is not to meet others among them.
        say = partial(click.echo, err=config.log.format == "json")
        sky.ready.addCallback(_say, say, demo=demo, hot_path=hot_path)
    sky.ready.addErrback(cannot)
    reactor.callWhenRunning(sky.startService)
    reactor.addSystemEventTrigger("before", "shutdown", sky.stopService)
    reactor.run()
    if problem:
        raise Failure(f"the server cannot start: {problem[0]}")


def _say(sky: SkyAaa, say: Callable[[str], None], *, demo: bool, hot_path: str) -> None:
    """What listens where, and for a demo who may do what with it."""
    assert sky.metrics is not None
    if sky.radius is not None:
        for port in sky.radius.server.ports:
            host, number = port.address
            say(f"RADIUS {port.role} on {host} port {number}/udp")
        for service in sky.beside:
            say(f"the {service} runs in a process of its own")
    else:
        say("the worker runs; it takes its turn when there is one already")
    say(f"metrics and health on http port {sky.metrics.port}")
    say(f"the hot path is {hot_path}")
    if demo:
        from aaa_server.demo import describe

        say(describe())
    say("ready; Ctrl-C stops the server")
    sys.stdout.flush()
