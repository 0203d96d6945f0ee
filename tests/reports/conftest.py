"""One month for all tests of reports; they read it, or read a copy."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from aaa_server.storage.database import connect
from aaa_server.storage.secrets import Keyring
from tests.reports import month

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection


@pytest.fixture(scope="session")
def month_url(
    template: str, new_database: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The database of October 2026; nobody changes it."""
    keyring = Keyring.open(tmp_path_factory.mktemp("month") / "secrets.key")
    with new_database(template) as url:
        with contextlib.closing(connect(url)) as connection:
            month.build(connection, keyring)
        yield url


@pytest.fixture
def of_month(month_url: str) -> Iterator[Connection]:
    """A connection to it."""
    with contextlib.closing(connect(month_url)) as connection:
        yield connection


@pytest.fixture
def month_copy(month_url: str, new_database: Any) -> Iterator[Connection]:
    """A month of this test's own."""
    with (
        new_database(month_url.partition("?")[0].rpartition("/")[2]) as url,
        contextlib.closing(connect(url)) as connection,
    ):
        yield connection
