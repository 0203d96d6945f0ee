"""Rules that rewrite or block numbers: national to E.164, prefixes that are not sold.

Of each scope the first rule that fits decides, in order of position. The scopes follow one
another: everybody's, the client's, the inbound resource group's, the account's; and, on
the way to a provider, the outbound resource group's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aaa_server.charging.requests import (
    Authenticate,
    Authorize,
    ChargingRequest,
    Start,
    Stop,
    Update,
)

if TYPE_CHECKING:
    from aaa_server.charging.catalogue import Catalogue

EVERYBODY = ("everybody", 0)

Scope = tuple[str, int]  # ("client", client_id), ("resource-group", …), ("account", …)


class Rule(NamedTuple):
    """Fits numbers of `min_digits` to `max_digits` that begin with `prefix`.

    `strip` digits are cut off and `prepend` put before what is left.
    """

    prefix: str
    min_digits: int
    max_digits: int
    block: bool
    strip: int
    prepend: str
    note: str = ""


class Blocked(NamedTuple):
    """A rule keeps the number out."""

    rule: Rule


class NumberRules(NamedTuple):
    """All rules in order, by scope: of the number that is called, and of the caller's."""

    called: dict[Scope, tuple[Rule, ...]]
    caller: dict[Scope, tuple[Rule, ...]]


NO_RULES = NumberRules({}, {})


def translate(rules: tuple[Rule, ...], number: str) -> str | Blocked:
    """`number` as the first rule that fits makes it; unchanged when none does."""
    for rule in rules:
        fits = rule.min_digits <= len(number) <= rule.max_digits
        if fits and number.startswith(rule.prefix):
            return Blocked(rule) if rule.block else rule.prepend + number[rule.strip :]
    return number


def translate_through(
    rules: dict[Scope, tuple[Rule, ...]], scopes: tuple[Scope, ...], number: str
) -> str | Blocked:
    """`number` after the rules of all `scopes`, each seeing what the one before made."""
    for scope in scopes:
        of_scope = rules.get(scope)
        if of_scope is not None:
            translated = translate(of_scope, number)
            if isinstance(translated, Blocked):
                return translated
            number = translated
    return number


def translate_called(
    rules: dict[Scope, tuple[Rule, ...]],
    client_id: int,
    resource_group_id: int,
    account_id: int,
    called: str,
) -> str | Blocked:
    """The number called as everybody's, the client's, the group's and the account's rules say."""
    scopes = (
        EVERYBODY,
        ("client", client_id),
        ("resource-group", resource_group_id),
        ("account", account_id),
    )
    return translate_through(rules, scopes, called)


def translate_caller(
    rules: dict[Scope, tuple[Rule, ...]], client_id: int, ani: str
) -> str | Blocked:
    """The caller's number as everybody's and the client's rules say."""
    return translate_through(rules, (EVERYBODY, ("client", client_id)), ani)


def with_callers_translated(
    batch: list[ChargingRequest], catalogue: Catalogue
) -> list[ChargingRequest]:
    """The batch with callers' numbers as the rules make them, before anybody is looked for by one.

    A caller that a rule blocks is left as it is, and refused when its call is planned.
    """
    rules = catalogue.number_rules.caller
    if not rules:
        return batch
    return [_with_caller_translated(request, rules) for request in batch]


def _with_caller_translated(
    request: ChargingRequest, rules: dict[Scope, tuple[Rule, ...]]
) -> ChargingRequest:
    if not isinstance(request, Authorize | Authenticate | Start | Update | Stop):
        return request
    ani = translate_caller(rules, request.client_id, request.origin.ani)
    if isinstance(ani, Blocked) or ani == request.origin.ani:
        return request
    return request._replace(origin=request.origin._replace(ani=ani))
