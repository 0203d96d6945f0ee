"""`sky-aaa client`: the switches and gateways that may ask."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli.context import Session, pass_session
from aaa_server.cli.output import output_option, show_record, show_rows
from aaa_server.cli.values import COUNT, SECRET_OCTETS_MIN
from aaa_server.storage import clients

if TYPE_CHECKING:
    from collections.abc import Callable

    from aaa_server.cli.output import Row
    from aaa_server.storage.clients import Client

YES_NO_AUTO = click.Choice(["yes", "no", "auto"])
SECRET_OCTETS_MAX = 128
# By version of IP; a site's whole network is not larger.
PREFIX_BITS_MIN = {4: 16, 6: 48}


@click.group()
def client() -> None:
    """RADIUS clients; servers learn of changes without a restart."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `add` and `set` share; what is not said follows from the type."""
    for option in reversed(
        (
            click.option("--secret", help="Shared with the client. Better: --secret-file."),
            click.option(
                "--secret-file",
                type=click.File("rb"),
                help="The secret alone; - is standard input.",
            ),
            click.option("--require-message-authenticator", type=YES_NO_AUTO),
            click.option("--limit-proxy-state", type=YES_NO_AUTO),
            click.option(
                "--send-message-authenticator/--no-send-message-authenticator",
                "send_message_authenticator",
                default=None,
                help="No: for clients whose dictionary lacks attribute 80.",
            ),
            click.option(
                "--refuse-with",
                type=click.Choice(["accept", "reject"]),
                help="Accept: with h323-return-code and no time.",
            ),
            click.option("--roles", type=click.Choice(["auth,acct", "auth", "acct"])),
            click.option("--bill-leg", type=click.Choice(["answer", "originate", "any"])),
            click.option("--slice-seconds", type=COUNT),
            click.option("--maximum-call-seconds", type=click.IntRange(min=1)),
            click.option(
                "--disconnect-port",
                type=click.IntRange(0, 65535),
                help="Where it takes orders to end calls, often 3799; 0: nowhere.",
            ),
            click.option(
                "--digest-nonces",
                type=click.Choice(["client", "server"]),
                help="Who makes the nonces of digests; server: no others are taken.",
            ),
            click.option(
                "--return-code",
                "return_codes",
                multiple=True,
                metavar="REASON=NUMBER",
                help="h323-return-code of a reason, where the vendor's differs; repeatable.",
            ),
        )
    ):
        command = option(command)
    return command


def _secret(options: dict[str, Any]) -> bytes | None:
    text, file = options.pop("secret"), options.pop("secret_file")
    if text is not None and file is not None:
        raise click.UsageError("--secret and --secret-file: one of them")
    secret: bytes | None = None
    if text is not None:
        secret = text.encode()
    elif file is not None:
        secret = file.read(SECRET_OCTETS_MAX + 3).rstrip(b"\r\n")
    if secret is not None and not 1 <= len(secret) <= SECRET_OCTETS_MAX:
        raise click.BadParameter(f"1 to {SECRET_OCTETS_MAX} octets", param_hint="--secret")
    return secret


def _network(text: str) -> str:
    from aaa_server.radius.client import unmapped

    try:
        return str(unmapped(ipaddress.ip_network(text, strict=True)))
    except ValueError as error:
        raise click.BadParameter(
            f"{error}: 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32 are expected", param_hint="ADDRESS"
        ) from error


def _warn(network_text: str, *secrets: bytes | None) -> None:
    """Say what is allowed and unwise. Nobody but this machine asks from a loopback address."""
    network = ipaddress.ip_network(network_text)
    if network.is_loopback:
        return
    if any(secret is not None and len(secret) < SECRET_OCTETS_MIN for secret in secrets):
        click.echo(
            f"the secret has fewer than {SECRET_OCTETS_MIN} octets, so that it may be guessed from "
            "a packet (RFC 2865 §3): `openssl rand -hex 16` makes a good one",
            err=True,
        )
    if network.prefixlen < PREFIX_BITS_MIN[network.version]:
        click.echo(
            f"{network} has {network.num_addresses} addresses: whoever has the secret may ask "
            "from any of them",
            err=True,
        )


def _return_codes(texts: tuple[str, ...]) -> dict[str, int]:
    from aaa_server.charging.requests import Refusal

    codes = {}
    reasons = [reason.value for reason in Refusal]
    for text in texts:
        reason, _, number = text.partition("=")
        if reason not in reasons or not number.isdigit():
            raise click.BadParameter(
                f"{text!r}: REASON=NUMBER is expected, the reasons are {', '.join(reasons)}",
                param_hint="--return-code",
            )
        codes[reason] = int(number)
    return codes


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """What was said; no port is a value too."""
    given = {key: value for key, value in options.items() if value is not None}
    if "disconnect_port" in given:
        given["disconnect_port"] = given["disconnect_port"] or None
    return given


@client.command()
@click.argument("name")
@click.argument("address", metavar="ADDRESS[/LEN]")
@click.option("--type", "type_", type=click.Choice(clients.TYPES), required=True)
@_options
@output_option
@pass_session
def add(session: Session, /, name: str, address: str, type_: str, **options: Any) -> None:
    """Let the switch at ADDRESS ask; its type says how it speaks."""
    secret = _secret(options)
    if secret is None:
        raise click.UsageError("a client needs a secret: --secret-file FILE or --secret TEXT")
    options["return_codes"] = _return_codes(options["return_codes"])
    given = _given(options)
    new = clients.new(name, _network(address), type_, **given)
    with session.transaction() as work:
        clients.add(work.cursor, work.viewer, session.keyring, new, secret)
        made = clients.find(work.cursor, work.viewer, name)
        work.note("client add", name, after=dict(_record(made)))
    show_record(session, _record(made))
    _warn(made.network, secret)


@client.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """All clients."""
    with session.transaction() as work:
        found = clients.list_clients(work.cursor, work.viewer)
    columns = (
        "name",
        "network",
        "type",
        "require_message_authenticator",
        "limit_proxy_state",
        "refuse_with",
        "roles",
        "slice_seconds",
        "maximum_call_seconds",
    )
    show_rows(session, columns, [_record(one) for one in found])


@client.command()
@click.argument("name")
@output_option
@pass_session
def show(session: Session, name: str) -> None:
    """All about one client, but its secret."""
    with session.transaction() as work:
        one = clients.find(work.cursor, work.viewer, name)
    show_record(session, _record(one))


def _record(one: Client) -> Row:
    return {**one._asdict(), "return_codes": dict(one.return_codes)}


@client.command("set")
@click.argument("name")
@click.option("--address", metavar="ADDRESS[/LEN]")
@click.option("--type", "type_", type=click.Choice(clients.TYPES))
@click.option("--rename", metavar="NAME")
@click.option(
    "--second-secret-file",
    type=click.File("rb"),
    help="Accepted beside the first, while the switch is changed over.",
)
@_options
@output_option
@pass_session
def set_(
    session: Session,
    /,
    name: str,
    address: str | None,
    type_: str | None,
    rename: str | None,
    second_secret_file: Any,
    **options: Any,
) -> None:
    """Change client NAME; what is not named stays. A new --secret ends a second one."""
    secret = _secret(options)
    second = _secret({"secret": None, "secret_file": second_secret_file})
    codes = _return_codes(options.pop("return_codes"))
    given = _given(options)
    if address is not None:
        given["network"] = _network(address)
    if type_ is not None:
        given["type"] = type_
    if rename is not None:
        given["name"] = rename
    if codes:
        given["return_codes"] = codes
    if given.get("require_message_authenticator") == "auto":
        given["message_authenticator_seen"] = False
    if not given and secret is None and second is None:
        raise click.UsageError("nothing to change: name at least one option")
    with session.transaction() as work:
        before = clients.find(work.cursor, work.viewer, name)
        after = before._replace(**given)
        clients.change(work.cursor, work.viewer, after)
        if secret is not None:
            clients.set_secret(work.cursor, work.viewer, session.keyring, before.client_id, secret)
        if second is not None:
            clients.set_second_secret(
                work.cursor, work.viewer, session.keyring, before.client_id, second
            )
        after = clients.find(work.cursor, work.viewer, after.name)
        marks = {"secret": "changed"} if secret is not None or second is not None else {}
        work.note(
            "client set", name, before=dict(_record(before)), after={**_record(after), **marks}
        )
    show_record(session, _record(after))
    if address is not None or secret is not None or second is not None:
        _warn(after.network, secret, second)


@client.command()
@click.argument("name")
@pass_session
def remove(session: Session, name: str) -> None:
    """Forget client NAME: what it sends is not answered any more."""
    with session.transaction() as work:
        one = clients.find(work.cursor, work.viewer, name)
        clients.remove(work.cursor, work.viewer, one)
        work.note("client remove", name, before=dict(_record(one)))
    click.echo(f"client {name} is removed", err=True)
