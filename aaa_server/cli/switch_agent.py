"""`sky-aaa switch-agent`: beside a FreeSWITCH, accounting and slices without mod_xml_radius.

Nothing here imports the database: the switch has none.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from aaa_server.cli.context import BadData, Failure, Session, pass_session


@click.command("switch-agent")
@click.option("--check", is_flag=True, help="Only try the settings, the switch and the servers.")
@pass_session
def switch_agent(session: Session, check: bool) -> None:
    """Run the agent on a switch, in the foreground until Ctrl-C; see docs/freeswitch.md."""
    session.operator_only("switch-agent")
    if check:
        _check(session)
        return
    from twisted.internet import reactor as started
    from twisted.internet.error import CannotListenError

    from aaa_server.log import start_logging
    from aaa_server.switch_agent.journal import SpoolInUse
    from aaa_server.switch_agent.service import NotConfigured, SwitchAgent

    config = session.config
    start_logging(config.log.format, sys.stderr, debug=session.debug)
    reactor: Any = started
    try:
        agent = SwitchAgent(config, reactor=reactor)
        agent.startService()
    except NotConfigured as error:
        raise BadData(str(error)) from error
    except (SpoolInUse, CannotListenError, OSError) as error:
        raise Failure(f"the agent cannot start: {error}") from error
    reactor.addSystemEventTrigger("before", "shutdown", agent.stopService)
    reactor.callWhenRunning(click.echo, f"metrics and health on http port {agent.metrics.port}")
    reactor.callWhenRunning(click.echo, "ready; Ctrl-C stops the agent")
    reactor.callWhenRunning(sys.stdout.flush)
    reactor.run()


def _check(session: Session) -> None:
    from aaa_server.switch_agent.check import findings
    from aaa_server.switch_agent.service import NotConfigured

    problems = 0
    try:
        for finding in findings(session.config.switch_agent):
            problems += bool(finding.problem)
            click.echo(f"{finding.what}: {finding.problem or 'ok'}")
    except NotConfigured as error:
        raise BadData(str(error)) from error
    if problems:
        raise Failure(f"{problems} of them must be put right first")
