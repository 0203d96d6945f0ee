"""`sky-aaa demo-call`: a call by real packets, and everything that it did.

It speaks RADIUS to the running server as one of its clients does: Access-Request, Start,
Stop, from the client's address. A call that is cut short by Ctrl-C is closed by the server
when it has been silent for long enough.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import click

from aaa_server.cli.cdr import call_record
from aaa_server.cli.context import Failure, Session, Work, pass_session
from aaa_server.cli.output import Things, amount, output_option, show_record
from aaa_server.radius import attribute, packet
from aaa_server.rating.prefix import number_of
from aaa_server.storage import accounts, cdrs, clients
from aaa_server.storage.problem import NotFound

if TYPE_CHECKING:
    from aaa_server.radius.packet import Packet, Secret
    from aaa_server.storage.accounts import Account

TRIES = 3
TRY_SECONDS = 2.0
CALL_CHECK = 10  # Service-Type, RFC 2865 §5.6
STATUS_START, STATUS_STOP = 1, 2  # Acct-Status-Type, RFC 2866 §5.1

Attributes = list[tuple[int, bytes]]


class Peer(NamedTuple):
    """Whom the call is placed as, and where the server is."""

    secret: Secret
    source: str
    server: str
    auth_port: int
    acct_port: int


class Wish(NamedTuple):
    """Who calls whom for how long."""

    account: str
    ani: str
    called: str
    seconds: int
    session_key: str


@click.command("demo-call")
@click.option("--account", "code", metavar="CODE", default="cora", show_default=True)
@click.option("--called", metavar="NUMBER", default="442071838750", show_default=True)
@click.option("--ani", metavar="NUMBER", default="34911230001", show_default=True)
@click.option("--seconds", type=click.IntRange(0, 86_400), default=61, show_default=True)
@click.option(
    "--client",
    "client_name",
    metavar="NAME",
    default="freeswitch",
    show_default=True,
    help="The RADIUS client to speak as; its address is one of this machine's.",
)
@click.option("--server", metavar="ADDRESS", help="[default: the client's own address]")
@output_option
@pass_session
def demo_call(
    session: Session,
    code: str,
    called: str,
    ani: str,
    seconds: int,
    client_name: str,
    server: str | None,
) -> None:
    """Place a call: Accept, Start, Stop, record, each level's charge, balances before and after.

    Time is not spent: the Stop tells that SECONDS have passed.
    """
    session.operator_only("demo-call")
    if not number_of(called):
        raise click.BadParameter(f"{called!r} is no number", param_hint="--called")
    wish = Wish(code, ani, number_of(called), seconds, str(uuid.uuid4()))
    with session.connection() as connection:
        with session.transaction(connection) as work:
            peer = _peer(session, work, client_name, server)
            before = _balances(work, code)
        record: dict[str, object] = {}
        accepted = _talk(peer, wish, record)
        with session.transaction(connection) as work:
            try:
                record |= call_record(work, cdrs.find(work.cursor, work.viewer, wish.session_key))
            except NotFound as error:
                raise Failure(
                    f"{peer.server} port {peer.acct_port} answered, and this database has no "
                    "record of the call: a server on another database listens there"
                ) from error
            after = _balances(work, code)
    record["balances"] = _compared(before, after)
    show_record(session, record)
    if not accepted:
        raise Failure("the call was refused: see the answer above")


def _peer(session: Session, work: Work, client_name: str, server: str | None) -> Peer:
    client = clients.find(work.cursor, work.viewer, client_name)
    secret = clients.secret(work.cursor, work.viewer, session.keyring, client.client_id)
    source = str(ipaddress.ip_network(client.network).network_address)
    radius = session.config.radius
    return Peer(packet.Secret(secret), source, server or source, radius.auth_port, radius.acct_port)


def _balances(work: Work, code: str) -> list[Account]:
    """The accounts whose balance the call may move: the chain, then the providers."""
    caller = accounts.find(work.cursor, work.viewer, code)
    wanted = accounts.Filter(account_ids=caller.chain)
    chain = accounts.list_accounts(work.cursor, work.viewer, wanted)
    chain.sort(key=lambda account: -len(account.chain))
    wanted = accounts.Filter(kind="provider")
    return chain + accounts.list_accounts(work.cursor, work.viewer, wanted)


def _compared(before: list[Account], after: list[Account]) -> Things:
    return Things(
        {
            "account": old.code,
            "currency": old.currency,
            "before": amount(old.balance_micros),
            "after": amount(new.balance_micros),
            "change": amount(new.balance_micros - old.balance_micros),
            "reserved_after": amount(new.reserved_micros),
        }
        for old, new in zip(before, after, strict=True)
    )


def _talk(peer: Peer, wish: Wish, record: dict[str, object]) -> bool:
    """Send the three requests; what came back goes into `record`. Whether time was granted."""
    now = datetime.now(UTC)
    common: Attributes = [
        (attribute.USER_NAME, wish.account.encode()),
        (attribute.CALLING_STATION_ID, wish.ani.encode()),
        (attribute.CALLED_STATION_ID, wish.called.encode()),
        (attribute.ACCT_SESSION_ID, wish.session_key.encode()),
        (attribute.H323_CONF_ID, f"h323-conf-id={wish.session_key}".encode()),
        (attribute.H323_REMOTE_ADDRESS, f"h323-remote-address={peer.source}".encode()),
        (attribute.CISCO_AVPAIR, f"call-id=demo-{wish.session_key}".encode()),
    ]
    access = [
        *common,
        (attribute.SERVICE_TYPE, CALL_CHECK.to_bytes(4, "big")),
        (attribute.CISCO_AVPAIR, b"h323-ivr-out=PHASE:authorize"),
    ]
    reply = _ask(peer, packet.ACCESS_REQUEST, access, peer.auth_port)
    answer = _spelled(reply)
    record["answer"] = Things({"attribute": name, "value": value} for name, value in answer)
    granted = _granted(reply)
    accounting = [
        *common,
        (attribute.H323_CALL_ORIGIN, b"h323-call-origin=inbound"),
    ]
    _account(peer, accounting, STATUS_START, now)
    record["start"] = "acknowledged"
    seconds = wish.seconds if granted else 0
    ended = [
        *accounting,
        (attribute.ACCT_SESSION_TIME, seconds.to_bytes(4, "big")),
        (attribute.CISCO_AVPAIR, f"bill-msec={seconds * 1000}".encode()),
        (attribute.H323_DISCONNECT_CAUSE, b"h323-disconnect-cause=10"),
        *_route(reply),
    ]
    _account(peer, ended, STATUS_STOP, now + timedelta(seconds=seconds))
    record["stop"] = f"acknowledged, {seconds} s"
    return granted


def _account(peer: Peer, attributes: Attributes, status: int, at: datetime) -> None:
    request = [
        (attribute.ACCT_STATUS_TYPE, status.to_bytes(4, "big")),
        (attribute.EVENT_TIMESTAMP, int(at.timestamp()).to_bytes(4, "big")),
        *attributes,
    ]
    _ask(peer, packet.ACCOUNTING_REQUEST, request, peer.acct_port)


def _granted(reply: Packet) -> bool:
    """A call may be refused by an Accept without time: FreeSWITCH shows no Reject to a script."""
    if reply.code != packet.ACCESS_ACCEPT:
        return False
    limits = [value for key, value in reply.attributes if key == attribute.SESSION_TIMEOUT]
    return any(int.from_bytes(value, "big") for value in limits)


def _route(reply: Packet) -> Attributes:
    """The first route that was offered, as the one that answered."""
    for key, value in reply.attributes:
        text = value.decode("utf-8", "replace")
        if key == attribute.CISCO_AVPAIR and text.startswith("h323-ivr-in=ROUTES:"):
            name = text.removeprefix("h323-ivr-in=ROUTES:").partition("=")[0]
            return [(attribute.CISCO_AVPAIR, f"route={name}".encode())]
    return []


def _spelled(reply: Packet) -> list[tuple[str, str]]:
    from aaa_server.radius.dictionary import Names, load

    codes = {packet.ACCESS_ACCEPT: "Access-Accept", packet.ACCESS_REJECT: "Access-Reject"}
    spelled = Names(load()).spelled(reply.attributes)
    return [("Packet-Type", codes.get(reply.code, str(reply.code))), *spelled]


def _ask(peer: Peer, code: int, attributes: Attributes, port: int) -> Packet:
    """The server's authentic answer; sent again, the same octets, while none comes."""
    authenticator = os.urandom(16)
    request = packet.encode_request(
        code,
        os.urandom(1)[0],
        peer.secret,
        attributes,
        authenticator=authenticator,
    )
    family = socket.AF_INET6 if ":" in peer.server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        try:
            udp.bind((peer.source, 0))
            udp.connect((peer.server, port))
        except OSError as error:
            raise Failure(
                f"{peer.source}: {error.strerror}. The client's address must be this machine's"
            ) from error
        udp.settimeout(TRY_SECONDS)
        for _ in range(TRIES):
            try:
                udp.send(request)
                reply = udp.recv(packet.PACKET_OCTETS_MAX)
            except (TimeoutError, ConnectionRefusedError):
                continue
            if packet.reply_fits(reply, request[4:20], peer.secret):
                return packet.decode(reply)
    raise Failure(
        f"no answer from {peer.server} port {port}: does the server run there (`sky-aaa serve`), "
        f"and is {peer.source} a client with this secret (`sky-aaa client list`)?"
    )
