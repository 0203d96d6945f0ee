"""A private PostgreSQL cluster: the product's own embedded one, settings and all."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import make_dsn

from aaa_server.storage.embedded import EmbeddedPostgres
from bench.process import cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from psycopg2.extensions import connection as Connection

# What min_wal_size of the embedded cluster comes to, in files of 16 MiB.
LOG_FILES = 60


class Cluster:
    """One PostgreSQL under `directory`, running until `stop`; a unix socket leads to it.

    Durability is PostgreSQL's default: fsync, full_page_writes and synchronous_commit on.
    """

    def __init__(self, directory: Path) -> None:
        self.embedded = EmbeddedPostgres(directory)
        self.embedded.open()
        self.pid = self.count(
            "postgres", "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)"
        )

        self.warm_log()

    def warm_log(self) -> None:
        """Has the log's files made that a cluster in use keeps and writes again.

        A new cluster stalls for tens of milliseconds whenever it needs one more.
        """
        if self.count("postgres", "SELECT count(*) FROM pg_ls_waldir()") >= LOG_FILES:
            return
        self.run(
            "SELECT count(pg_logical_emit_message(false, 'bench', repeat('0', 1000000)))"
            " FROM generate_series(1, 1100)"
        )
        self.run("CHECKPOINT")

    def stop(self) -> None:
        """Ends the postmaster; the data stay."""
        self.embedded.close()

    def url(self, database: str) -> str:
        """For our server."""
        return urlsplit(self.embedded.url)._replace(path=f"/{database}").geturl()

    def conninfo(self, database: str) -> str:
        """The same as libpq's key=value."""
        return str(make_dsn(self.embedded.url, dbname=database))

    @contextlib.contextmanager
    def connect(self, database: str) -> Iterator[Connection]:
        """A connection that is committed and closed at the end of the block."""
        connection = psycopg2.connect(self.conninfo(database))
        try:
            yield connection
            connection.commit()
        finally:
            connection.close()

    def run(self, statement: str, *names: str, database: str = "postgres") -> None:
        """One statement outside of a transaction; `{}` stand for the names."""
        with self.connect(database) as connection, contextlib.ExitStack() as stack:
            connection.autocommit = True
            cursor = stack.enter_context(connection.cursor())
            cursor.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def count(self, database: str, query: str) -> int:
        """The number that a query says."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone()
        return int(row[0]) if row else 0

    def named(self, prefix: str) -> list[str]:
        """The databases whose names begin so."""
        with self.connect("postgres") as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (prefix,)
            )
            return [name for (name,) in cursor.fetchall()]

    def has(self, database: str) -> bool:
        """A database of that name exists."""
        return database in self.named(database)

    def drop(self, database: str) -> None:
        """Whoever is connected to it is disconnected; nothing happens when it is not there."""
        self.run("DROP DATABASE IF EXISTS {} WITH (FORCE)", database)

    def create(self, database: str) -> None:
        """An empty database, whatever was there before."""
        self.drop(database)
        self.run("CREATE DATABASE {}", database)

    def copy(self, source: str, database: str) -> None:
        """A fresh copy of a database that nobody is connected to."""
        self.drop(database)
        self.run("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", database, source)

    def rename(self, database: str, name: str) -> None:
        """Nobody may be connected to it."""
        self.run("ALTER DATABASE {} RENAME TO {}", database, name)

    def vacuum(self, database: str) -> None:
        """Sets hint bits and statistics, which autovacuum would do during the first run."""
        self.run("VACUUM (FREEZE, ANALYZE)", database=database)

    def version(self) -> str:
        """PostgreSQL's own word, "18.6"."""
        with self.connect("postgres") as connection, connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            row = cursor.fetchone()
        return str(row[0]) if row else ""

    def cpu_seconds(self) -> float:
        """CPU time of the postmaster and all its backends, ended ones included."""
        return cpu_seconds(self.pid)
