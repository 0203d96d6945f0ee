"""`sky-aaa doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import errno
import ipaddress
import os
import shutil
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aaa_server import compiled
from aaa_server.cli.context import Failure, Session, explain, pass_session
from aaa_server.cli.doctor_freeswitch import Finding, freeswitch
from aaa_server.cli.output import output_option, show_rows
from aaa_server.cli.values import SECRET_OCTETS_MIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.config import SmtpConfig
    from aaa_server.storage.findings import Server
    from aaa_server.storage.viewer import Viewer

POSTGRES_VERSION_MIN = 150000
CLOCK_SECONDS_MAX = 2.0
RECEIVE_BUFFER_OCTETS = 4 * 1024 * 1024  # the kernel's default holds 90 requests and drops the rest
FREE_OCTETS_MIN = 1024**3
KNOWN_SECRETS = frozenset(
    (b"testing123", b"secret", b"radius", b"password", b"changeme", b"cisco", b"sharedsecret")
)


# What to do about each fault of storage.findings, and how bad it is.
FAULTS = {
    "rate-group-without-rates": (
        "problem",
        "rate groups in use without a rate in force: their accounts' calls are refused",
        "sky-aaa import-rates FILE --rate-group NAME",
    ),
    "rate-group-without-routes": (
        "problem",
        "rate groups of direct accounts whose attached routes are all suspended: their calls are "
        "refused",
        "sky-aaa resource-group set XX --active, or account resume PROVIDER; with no route "
        "attached at all, the switch routes by itself",
    ),
    "account-without-rate-group": (
        "problem",
        "accounts without a rate group: their calls, and those below them, are refused",
        "sky-aaa account set CODE --rate-group NAME",
    ),
    "account-with-another-seller's-rate-group": (
        "warning",
        "accounts that buy at a rate group which is not their parent's",
        "sky-aaa account set CODE --rate-group NAME, one of the parent's",
    ),
    "account-without-exchange-rate": (
        "problem",
        "accounts in another currency than their rate group, and no exchange rate",
        "sky-aaa currency rate FROM TO RATE",
    ),
    "outbound-without-rates": (
        "warning",
        "outbound resource groups without a termination rate in force: no call goes that way",
        "sky-aaa import-rates FILE --resource-group RG_XX, or resource-group set XX --suspended",
    ),
    "outbound-without-gateway": (
        "warning",
        "outbound resource groups without a dial string",
        "sky-aaa resource-group set XX --gateway sofia/gateway/NAME",
    ),
    "outbound-not-attached": (
        "warning",
        "outbound resource groups that no rate group uses",
        "sky-aaa rate-group attach NAME RG_XX",
    ),
    "calls-that-should-have-ended": (
        "problem",
        "calls whose time and grace are over: a running server would have closed them",
        "sky-aaa serve; it closes them by itself",
    ),
    "calls-from-the-future": (
        "warning",
        "calls that begin in the future: a clock was wrong",
        "look at the clocks of the servers (timedatectl)",
    ),
}


@click.group(invoke_without_command=True)
@output_option
@pass_session
@click.pass_context
def doctor(ctx: click.Context, session: Session) -> None:
    """Look at configuration, database, secrets, clients, ports, clock and price lists.

    Each finding says what to do. Exit status 1 when there is a problem. With `freeswitch` it
    looks at the files of a switch instead.
    """
    if ctx.invoked_subcommand is not None:
        return
    session.operator_only("the doctor")
    found = list(_findings(session))
    show_rows(session, Finding._fields, [finding._asdict() for finding in found])
    problems = sum(finding.level == "problem" for finding in found)
    warnings = sum(finding.level == "warning" for finding in found)
    click.echo(f"{problems} problems, {warnings} warnings", err=True)
    if problems:
        ctx.exit(1)


doctor.add_command(freeswitch)


def _findings(session: Session) -> Iterator[Finding]:
    try:
        where = "the embedded one" if not session.config.database.url else "an external one"
    except Failure as error:
        yield Finding("problem", "configuration", error.message, "mend it: all else depends on it")
        return
    yield Finding("ok", "configuration", f"read; the database is {where}")
    yield from _system(session)
    try:
        with session.connection() as connection:
            yield from _database(session, connection)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        text, _ = explain(error)
        yield Finding(
            "problem", "database", text, "sky-aaa config show says where it is looked for"
        )


# ------------------------------------------------------------------ this machine


def _system(session: Session) -> Iterator[Finding]:
    config = session.config
    yield _hot_path(compiled.why_not())
    yield _key_file(config.secrets.key_file)
    for address in config.radius.address:
        for port in (config.radius.auth_port, config.radius.acct_port):
            yield _port(address, port)
    yield from _receive_buffer(Path("/proc/sys/net/core/rmem_max"))
    folder = config.database.directory
    if not config.database.url and folder.exists():
        free = shutil.disk_usage(folder).free
        if free < FREE_OCTETS_MIN:
            yield Finding(
                "warning",
                "disk",
                f"{free >> 20} MiB are free for {folder}",
                "free some: a full disk stops every call",
            )


def _hot_path(why_not: str) -> Finding:
    if why_not:
        what, _, do = why_not.partition("; ")
        return Finding("warning", "hot path", f"interpreted, so slower: {what}", do)
    return Finding("ok", "hot path", "compiled")


def _key_file(path: Path) -> Finding:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return Finding(
            "warning", "key file", f"{path} is not there", "the first start makes it; keep a copy"
        )
    except OSError as error:
        return Finding("problem", "key file", f"{path}: {error.strerror}", "make it readable")
    if mode & 0o077:
        return Finding(
            "problem",
            "key file",
            f"{path}: others may read it (mode {mode:04o})",
            f"chmod 600 {path}",
        )
    return Finding("ok", "key file", f"{path}: keep a copy apart from the database's")


def _port(address: str, port: int) -> Finding:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    about = f"{address} port {port}/udp"
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        if family == socket.AF_INET6:
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            udp.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return Finding(
                    "ok",
                    about,
                    "in use: by this server, if it runs",
                    "if it does not: ss -lunp shows whose it is",
                )
            if error.errno == errno.EAFNOSUPPORT or family == socket.AF_INET6:
                return Finding(
                    "warning",
                    about,
                    f"cannot be bound: {error.strerror}",
                    'without IPv6 say so: [radius] address = ["0.0.0.0"]',
                )
            return Finding(
                "problem",
                about,
                f"cannot be bound: {error.strerror}",
                "[radius] address and ports: sky-aaa config show",
            )
    return Finding("ok", about, "free")


def _receive_buffer(setting: Path) -> Iterator[Finding]:
    try:
        octets = int(setting.read_text())
    except (OSError, ValueError):
        return  # no Linux: nothing is known
    if octets >= RECEIVE_BUFFER_OCTETS or os.geteuid() == 0:
        yield Finding("ok", "receive buffer", f"{RECEIVE_BUFFER_OCTETS >> 20} MiB can be had")
    else:
        yield Finding(
            "warning",
            "receive buffer",
            f"net.core.rmem_max is {octets}: bursts of requests are dropped unseen",
            f"as root: sysctl -w net.core.rmem_max={RECEIVE_BUFFER_OCTETS}",
        )


# ------------------------------------------------------------------ the database


def _database(session: Session, connection: Connection) -> Iterator[Finding]:
    from aaa_server.storage import findings, migrate, viewer
    from aaa_server.storage.database import transaction
    from aaa_server.storage.problem import Problem

    with transaction(connection) as cursor:
        yield from _postgres(findings.server(cursor))
    try:
        pending = migrate.pending(connection)
    except migrate.MigrationError as error:
        yield Finding("problem", "schema", str(error), "use the version that made this database")
        return
    if pending:
        yield Finding("problem", "schema", f"lacks {', '.join(pending)}", "sky-aaa migrate")
        return
    yield Finding("ok", "schema", "up to date")
    with transaction(connection) as cursor:
        try:
            operator = viewer.operator(cursor)
        except Problem as error:
            yield Finding("problem", "accounts", str(error), "or for a try: sky-aaa serve --demo")
            return
        yield from _secrets(session, cursor)
        yield from _clients(session, cursor, operator)
        yield from _mail(session, cursor, operator)
        for trouble in findings.troubles(cursor):
            level, what, do = FAULTS[trouble.fault]
            more = f" and {trouble.affected - len(trouble.names)} more"
            names = ", ".join(trouble.names) + (
                more if trouble.affected > len(trouble.names) else ""
            )
            yield Finding(level, trouble.fault.replace("-", " "), f"{what}: {names}", do)


def _postgres(server: Server) -> Iterator[Finding]:
    version = f"PostgreSQL {server.version // 10000}.{server.version % 10000}"
    if server.version < POSTGRES_VERSION_MIN:
        yield Finding(
            "problem", "database", f"{version} is too old", "15 or newer is needed; 18 is best"
        )
    elif server.durable:
        yield Finding("ok", "database", f"{version} answers")
    else:
        yield Finding(
            "problem",
            "database",
            f"{version}: fsync, full_page_writes or synchronous_commit is off",
            "set them on: what was answered must survive a power cut",
        )
    apart = abs((server.now - datetime.now(UTC)).total_seconds())
    if apart > CLOCK_SECONDS_MAX:
        yield Finding(
            "problem",
            "clock",
            f"this machine's and the database's are {apart:.0f} s apart",
            "let both follow NTP (timedatectl set-ntp true)",
        )
    else:
        yield Finding("ok", "clock", "agrees with the database's")


def _secrets(session: Session, cursor: Cursor) -> Iterator[Finding]:
    from aaa_server.storage import findings
    from aaa_server.storage.sealed import is_any, missing_text
    from aaa_server.storage.secrets import SecretsError

    try:
        path = session.config.secrets.key_file
        if not path.exists():
            if is_any(cursor):
                raise SecretsError(missing_text(path))
            return
        for table, row_id, column, sealed in findings.sealed_secrets(cursor):
            session.keyring.unseal(sealed, table=table, row_id=row_id, column=column)
    except SecretsError as error:
        yield Finding(
            "problem", "key file", str(error), "put back the key file that belongs to this database"
        )


def _clients(session: Session, cursor: Cursor, operator: Viewer) -> Iterator[Finding]:
    from aaa_server.storage import clients
    from aaa_server.storage.secrets import SecretsError

    found = clients.list_clients(cursor, operator)
    if not found:
        yield Finding(
            "warning",
            "clients",
            "there is none: nobody is answered",
            "sky-aaa client add NAME ADDRESS --type TYPE --secret-file FILE",
        )
    for client in found:
        about = f"client {client.name}"
        network = ipaddress.ip_network(client.network)
        try:
            secret = clients.secret(cursor, operator, session.keyring, client.client_id)
        except SecretsError:
            continue  # said already
        renew = f"sky-aaa client set {client.name} --secret-file FILE"
        if network.is_loopback:
            continue
        if secret.lower() in KNOWN_SECRETS:
            yield Finding("problem", about, f"{network} has a secret that everybody knows", renew)
        elif len(secret) < SECRET_OCTETS_MIN:
            yield Finding(
                "warning", about, f"its secret is shorter than {SECRET_OCTETS_MIN} octets", renew
            )
        if client.require_message_authenticator == "no" and client.limit_proxy_state != "yes":
            yield Finding(
                "warning",
                about,
                "requests need no Message-Authenticator and may carry Proxy-State (CVE-2024-3596)",
                f"sky-aaa client set {client.name} --limit-proxy-state yes",
            )


def _mail(session: Session, cursor: Cursor, operator: Viewer) -> Iterator[Finding]:
    """The mail server, where anything is to be mailed; and what keeps jobs from their work."""
    from aaa_server.storage import invoice_schedules, job_problems, report_schedules

    smtp = session.config.smtp
    schedules = invoice_schedules.list_schedules(cursor, operator)
    wanted = report_schedules.waits(cursor) or any(
        one.mail_since or one.remind_since for one in schedules
    )
    if smtp.host:
        yield _mail_server(smtp)
    elif wanted:
        yield Finding(
            "problem",
            "mail server",
            "none is configured: invoices, reminders or reports that are to be mailed wait",
            "[smtp] host, port, user, and SKY_AAA_SMTP_PASSWORD_FILE",
        )
    for one in job_problems.list_problems(cursor, operator):
        if one.job != "mail-server":
            since = f"since {one.since:%Y-%m-%d %H:%M}Z"
            yield Finding(
                "problem",
                f"job {one.job}",
                f"{one.account_code}, {since}: {one.problem}",
                f"mend it, then sky-aaa jobs run {one.job}; or wait for the worker",
            )


def _mail_server(smtp: SmtpConfig) -> Finding:
    from web_reports.outbox import Outbox, ServerTrouble

    outbox = Outbox(smtp)
    try:
        outbox.check()
    except ServerTrouble as error:
        return Finding(
            "problem", "mail server", str(error), "[smtp] of the configuration, or the server there"
        )
    finally:
        outbox.close()
    return Finding("ok", "mail server", f"{smtp.host}:{smtp.port} answers")
