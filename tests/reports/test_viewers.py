"""A reseller's report has nothing of other trees, of providers or of what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from psycopg2 import sql
from psycopg2.errors import InsufficientPrivilege

from aaa_server.storage import viewer
from tests.reports.asking import ask
from web_reports.report import reports

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

OPEN = [one.name for one in reports(operator=False)]
CASES = [(one.name, "") for one in reports(operator=False)] + [
    (one.name, group) for one in reports(operator=False) for group in one.groups(operator=False)
]
READERS = ("north", "west-one", "c16")


def strangers(connection: Connection, code: str) -> set[str]:
    """Codes that the reader must not see, and all ways out."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT code FROM account WHERE NOT chain @> ARRAY["
            " (SELECT account_id FROM account AS reader WHERE reader.code = %s)]"
            " AND kind <> 'admin'"
            " AND account_id <> (SELECT parent_id FROM account AS reader WHERE reader.code = %s)"
            " UNION ALL SELECT name FROM resource_group",
            (code, code),
        )
        found = {name for (name,) in cursor.fetchall()}
    connection.rollback()
    assert {"acme", "euronet", "RG_21"} <= found
    return found


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("name", "group"), CASES)
def test_a_reader_sees_its_own_tree(
    of_month: Connection, name: str, group: str, reader: str
) -> None:
    answer = ask(of_month, name, *([group] if group else []), as_code=reader)
    hidden = strangers(of_month, reader)
    seen = {cell for row in answer.rows for cell in row if isinstance(cell, str)}
    assert seen & hidden == set()
    assert [tied for tied in answer.ties if tied.difference] == []


def test_what_is_the_operator_s_is_no_choice_for_others(of_month: Connection) -> None:
    assert not {"audit-log", "provider-settlement", "suspense"} & set(OPEN)
    names = [one.name for one in ask(of_month, "calls", as_code="north").columns]
    assert {"route", "flags"} & set(names) == set()
    assert {"route", "flags"} <= {one.name for one in ask(of_month, "calls").columns}


def test_a_reseller_s_cost_is_what_it_pays_itself(of_month: Connection) -> None:
    own = ask(of_month, "margin", "customer", as_code="north")
    operator = ask(of_month, "margin", "customer")
    paid = sum(
        revenue
        for customer, revenue in zip(
            operator.column("customer"), operator.column("revenue"), strict=True
        )
        if customer == "north"
    )
    assert sum(own.column("cost")) == paid > 0
    assert sum(own.column("revenue")) > 0


def test_calls_cost_a_reseller_what_it_paid(of_month: Connection) -> None:
    calls = ask(of_month, "calls", as_code="north")
    margin = ask(of_month, "margin", as_code="north")
    # The same but for what was posted in other months than the call ended in.
    assert len(calls.rows) > 100
    assert abs(sum(filter(None, calls.column("cost"))) - sum(margin.column("cost"))) < 2_000_000


def test_rollups_refuse_what_a_viewer_must_not_read(of_month: Connection) -> None:
    for statement in (
        "SELECT provider_id FROM charge_hour",
        "SELECT resource_group_id FROM call_hour",
        "SELECT * FROM charge_hour",
        "INSERT INTO call_hour DEFAULT VALUES",
        "DELETE FROM rollup_stale",
        "SELECT * FROM count_charges('-infinity', 'infinity', '1 hour')",
    ):
        with of_month.cursor() as cursor:
            viewer.enter(cursor, "north")
            if "count_charges" in statement:
                cursor.execute(statement.replace("*", "count(*) FILTER (WHERE level = -1)"))
                assert cursor.fetchone() == (0,)
            else:
                with pytest.raises(InsufficientPrivilege):
                    cursor.execute(statement)
        of_month.rollback()


def test_who_forgets_who_he_is_sees_nothing(of_month: Connection) -> None:
    # The rights in these functions are the owner's: a viewer's setting must not open them.
    for setting in ("", "0", "-1"):
        for function in ("uncounted_calls", "uncounted_charges"):
            with of_month.cursor() as cursor:
                viewer.enter(cursor, "north")
                cursor.execute("SELECT set_config('sky_aaa.viewer_id', %s, true)", (setting,))
                cursor.execute(
                    sql.SQL("SELECT count(*) FROM {}('2026-01-01', '2027-01-01', false)").format(
                        sql.Identifier(function)
                    )
                )
                assert cursor.fetchone() == (0,)
            of_month.rollback()
