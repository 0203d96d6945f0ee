"""Rules that rewrite or block numbers, and the numbers that no rule keeps out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import psycopg2.errors

from aaa_server.charging.numbers import Blocked, Rule, translate
from aaa_server.rating.prefix import NUMBER_DIGITS_MAX
from aaa_server.storage import clients
from aaa_server.storage.problem import BadValue, Conflict, NotFound
from aaa_server.storage.viewer import Deed, Viewer, as_owner, may, require, require_operator

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg2.extensions import cursor as Cursor

    from aaa_server.storage.accounts import Account
    from aaa_server.storage.clients import Client
    from aaa_server.storage.resource_groups import ResourceGroup

POSITION_STEP = 10  # between rules, so that one fits in between
POSITION_MAX = 2**31 - 1
_DIGITS = re.compile(r"[0-9*#]{0,32}")
_EMERGENCY = re.compile(r"[0-9]{2,8}")


class Scope(NamedTuple):
    """Whose calls a rule is about: everybody's, a client's, a resource group's or an account's."""

    client: Client | None = None
    group: ResourceGroup | None = None
    account: Account | None = None

    @property
    def kind(self) -> str:
        """In the words of `charging.numbers`."""
        if self.client is not None:
            return "client"
        if self.group is not None:
            return "resource-group"
        return "everybody" if self.account is None else "account"

    @property
    def name(self) -> str:
        """Of the client, group or account; '' of everybody."""
        if self.client is not None:
            return self.client.name
        if self.group is not None:
            return self.group.name
        return "" if self.account is None else self.account.code

    @property
    def ids(self) -> tuple[int | None, int | None, int | None]:
        """Row numbers of client, resource group, account; None of the others."""
        return (
            None if self.client is None else self.client.client_id,
            None if self.group is None else self.group.resource_group_id,
            None if self.account is None else self.account.account_id,
        )


class NumberRule(NamedTuple):
    """One rule; `of` names the client, resource group or account of its scope."""

    number_rule_id: int
    scope: str
    of: str
    field: str  # called, caller
    position: int
    rule: Rule
    account_chain: tuple[int, ...] = ()
    ids: tuple[int | None, int | None, int | None] = (None, None, None)


class Step(NamedTuple):
    """What a scope makes of a number: `rule` None when none of it fits, `after` '' when blocked."""

    scope: str
    of: str
    rule: NumberRule | None
    after: str


def new_rule(
    prefix: str,
    *,
    min_digits: int | None,
    max_digits: int | None,
    block: bool,
    strip: int,
    prepend: str,
    note: str,
) -> Rule:
    """A rule that always leaves a number: 1 to 32 digits. Raises `BadValue`.

    `min_digits` and `max_digits` None: as few and as many as that allows.
    """
    for what, text in (("--prefix", prefix), ("--prepend", prepend)):
        if not _DIGITS.fullmatch(text):
            raise BadValue(f"{what} {text!r}: digits, * and #, 32 at most; numbers have no + here")
    leaves_one = strip if prepend else strip + 1
    shortest = max(min_digits or leaves_one, len(prefix), 1)
    longest = max_digits
    if longest is None:
        longest = min(NUMBER_DIGITS_MAX, NUMBER_DIGITS_MAX - len(prepend) + strip)
    if longest < shortest:
        raise BadValue(f"no number has {shortest} digits or more and {longest} or fewer")
    if shortest < leaves_one and not block:
        raise BadValue(
            f"{strip} digits cannot be stripped off a number of {shortest}: "
            f"say --min-digits {leaves_one}"
        )
    if longest - strip + len(prepend) > NUMBER_DIGITS_MAX:
        raise BadValue(
            f"a number of {longest} digits would have more than {NUMBER_DIGITS_MAX}: "
            f"say --max-digits {NUMBER_DIGITS_MAX - len(prepend) + strip}"
        )
    return Rule(prefix, shortest, longest, block, strip, prepend, note)


def list_rules(cursor: Cursor, viewer: Viewer) -> list[NumberRule]:
    """In the order in which they are asked: by scope, the number called first, by position.

    All for the operator; others find those of the accounts of their tree.
    """
    cursor.execute(
        """
        SELECT number_rule.number_rule_id,
               number_rule.client_id,
               number_rule.resource_group_id,
               number_rule.account_id,
               coalesce(resource_group.name, account.code, ''),
               coalesce(account.chain, '{}'),
               number_rule.field,
               number_rule.position,
               number_rule.prefix,
               number_rule.min_digits,
               number_rule.max_digits,
               number_rule.action = 'block',
               number_rule.strip,
               number_rule.prepend,
               number_rule.note
          FROM number_rule
          LEFT JOIN account USING (account_id)
          LEFT JOIN resource_group USING (resource_group_id)
         ORDER BY number_rule.account_id NULLS FIRST,
                  number_rule.resource_group_id NULLS FIRST,
                  number_rule.client_id NULLS FIRST,
                  number_rule.field,
                  number_rule.position
        """
    )
    rows = cursor.fetchall()
    names = {}
    if viewer.is_operator:
        names = {one.client_id: one.name for one in clients.list_clients(cursor, viewer)}
    found = [
        NumberRule(
            row[0],
            _scope_kind(*row[1:4]),
            names.get(row[1], row[4]),
            row[6],
            row[7],
            Rule(*row[8:]),
            tuple(row[5]),
            tuple(row[1:4]),
        )
        for row in rows
    ]
    return [
        one
        for one in found
        if viewer.is_operator
        or (one.scope == "account" and may(viewer, Deed.SEE, one.account_chain))
    ]


def _scope_kind(client_id: int | None, group_id: int | None, account_id: int | None) -> str:
    if client_id is not None:
        return "client"
    if group_id is not None:
        return "resource-group"
    return "everybody" if account_id is None else "account"


def find(cursor: Cursor, viewer: Viewer, number_rule_id: int) -> NumberRule:
    """The rule; raises `NotFound` when there is none that `viewer` may see."""
    for one in list_rules(cursor, viewer):
        if one.number_rule_id == number_rule_id:
            return one
    raise NotFound(f"there is no number rule {number_rule_id}: `sky-aaa number-rule list`")


def _require(viewer: Viewer, scope: str, of: str, chain: Sequence[int]) -> None:
    if scope == "account":
        require(viewer, Deed.CHANGE, chain, of)
    else:
        require_operator(viewer, f"number rules of {of or 'everybody'} ({scope})")


def add(
    cursor: Cursor,
    viewer: Viewer,
    scope: Scope,
    rule: Rule,
    *,
    field: str = "called",
    position: int | None = None,
) -> int:
    """The new rule's number; `position` None: behind the others of its scope.

    Raises `Conflict` for a position that is taken, `BadValue` for a caller's number of an
    account or resource group: it is rewritten before it is known whose call it is.
    """
    account = scope.account
    _require(viewer, scope.kind, scope.name, () if account is None else account.chain)
    if field == "caller" and scope.kind not in ("client", "everybody"):
        raise BadValue(
            "the caller's number says whose call it is, so it is rewritten before that is known: "
            "--caller goes with --client or --everybody"
        )
    if account is not None and account.kind not in ("customer", "reseller"):
        raise BadValue(f"{account.code} is of kind {account.kind}: it makes no calls")
    with as_owner(cursor, viewer):
        try:
            cursor.execute(
                """
                INSERT INTO number_rule (
                           client_id, resource_group_id, account_id, field, position, prefix,
                           min_digits, max_digits, action, strip, prepend, note)
                SELECT %(client_id)s,
                       %(group_id)s,
                       %(account_id)s,
                       %(field)s,
                       coalesce(%(position)s::integer, max(position) + %(step)s, %(step)s),
                       %(prefix)s,
                       %(min_digits)s,
                       %(max_digits)s,
                       CASE WHEN %(block)s THEN 'block' ELSE 'translate' END,
                       %(strip)s,
                       %(prepend)s,
                       %(note)s
                  FROM number_rule
                 WHERE client_id IS NOT DISTINCT FROM %(client_id)s
                   AND resource_group_id IS NOT DISTINCT FROM %(group_id)s
                   AND account_id IS NOT DISTINCT FROM %(account_id)s
                   AND field = %(field)s
             RETURNING number_rule_id
                """,
                {
                    **dict(zip(("client_id", "group_id", "account_id"), scope.ids, strict=True)),
                    **rule._asdict(),
                    "field": field,
                    "position": position,
                    "step": POSITION_STEP,
                },
            )
        except psycopg2.errors.UniqueViolation as error:
            raise Conflict(
                f"position {position} of {scope.name or 'everybody'}'s rules is taken: "
                "`sky-aaa number-rule list` shows them"
            ) from error
        row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def remove(cursor: Cursor, viewer: Viewer, one: NumberRule) -> None:
    """Take the rule away."""
    _require(viewer, one.scope, one.of, one.account_chain)
    with as_owner(cursor, viewer):
        cursor.execute("DELETE FROM number_rule WHERE number_rule_id = %s", (one.number_rule_id,))


def attempt(
    rules: Sequence[NumberRule], scopes: Iterable[Scope], number: str, *, field: str
) -> list[Step]:
    """What each of `scopes` makes of `number`, in turn, until one blocks it."""
    steps = []
    for scope in scopes:
        mine = [one for one in rules if (one.ids, one.field) == (scope.ids, field)]
        fitting = next((one for one in mine if _fits(one.rule, number)), None)
        if fitting is not None:
            made = translate((fitting.rule,), number)
            number = "" if isinstance(made, Blocked) else made
        steps.append(Step(scope.kind, scope.name, fitting, number))
        if not number:
            break
    return steps


def _fits(rule: Rule, number: str) -> bool:
    """Whether it would block the number, if it blocked."""
    return isinstance(translate((rule._replace(block=True),), number), Blocked)


# ------------------------------------------------------------------ emergency numbers


class EmergencyNumber(NamedTuple):
    """A number that always passes, free; `resource_group` '': the switch knows the way."""

    number: str
    resource_group: str
    note: str


def list_emergency(cursor: Cursor, viewer: Viewer) -> list[EmergencyNumber]:
    """All, in order."""
    require_operator(viewer, "emergency numbers")
    cursor.execute(
        """
        SELECT emergency_number.number,
               coalesce(resource_group.name, ''),
               emergency_number.note
          FROM emergency_number
          LEFT JOIN resource_group USING (resource_group_id)
         ORDER BY emergency_number.number
        """
    )
    return [EmergencyNumber(*row) for row in cursor.fetchall()]


def add_emergency(
    cursor: Cursor, viewer: Viewer, number: str, group: ResourceGroup | None, note: str
) -> None:
    """`number`, as the switch sends it, always passes. Raises `Conflict`, `BadValue`."""
    require_operator(viewer, "emergency numbers")
    if not _EMERGENCY.fullmatch(number):
        raise BadValue(f"{number!r} is no emergency number: 2 to 8 digits")
    if group is not None and group.direction != "out":
        raise BadValue(f"{group.name} is inbound: an emergency call goes out")
    cursor.execute(
        """
        INSERT INTO emergency_number (number, resource_group_id, note)
        VALUES (%s, %s, %s)
            ON CONFLICT (number) DO NOTHING
        """,
        (number, None if group is None else group.resource_group_id, note),
    )
    if not cursor.rowcount:
        raise Conflict(
            f"{number} is an emergency number already: `sky-aaa emergency remove {number}` first"
        )


def remove_emergency(cursor: Cursor, viewer: Viewer, number: str) -> None:
    """`number` is like any other. Raises `NotFound`."""
    require_operator(viewer, "emergency numbers")
    cursor.execute("DELETE FROM emergency_number WHERE number = %s", (number,))
    if not cursor.rowcount:
        raise NotFound(f"{number} is no emergency number: `sky-aaa emergency list` shows all")
