"""What every command shares: configuration, database, whose eyes, and errors in one line."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import sys
import traceback
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from aaa_server.storage.problem import BadValue, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from aaa_server.config import Config
    from aaa_server.storage.secrets import Keyring
    from aaa_server.storage.viewer import Viewer

# numeric_value_out_of_range, datetime_field_overflow
TOO_LARGE = ("22003", "22008")
# character_not_in_repertoire, untranslatable_character: a NUL in a text, or in one within JSON
NO_CHARACTER = ("22021", "22P05")


class Failure(click.ClickException):
    """It did not work; the text says what, where and what to do. Exit status 1."""

    exit_code = 1


class BadData(Failure):
    """What was given cannot be used. Exit status 2."""

    exit_code = 2


@dataclass
class Session:
    """One run of the command line: its global options, and what they open."""

    config_path: Path | None = None
    as_code: str = ""
    output: str = "table"
    debug: bool = False

    @cached_property
    def config(self) -> Config:
        """The configuration; a `Failure` names what is wrong with it."""
        from aaa_server.config import ConfigError, load_config

        try:
            return load_config(self.config_path)
        except ConfigError as error:
            raise BadData(str(error)) from error

    @cached_property
    def keyring(self) -> Keyring:
        """The key that secrets are sealed with."""
        from aaa_server.storage.sealed import open_keyring
        from aaa_server.storage.secrets import Keyring

        path = self.config.secrets.key_file
        if path.exists():
            return Keyring.open(path)
        with self.connection() as connection:
            return open_keyring(path, connection)

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """The database, started if it is the embedded one and does not run."""
        from aaa_server.storage.database import connect
        from aaa_server.storage.embedded import open_database

        with open_database(self.config) as database:
            connection = connect(database.url)
            try:
                yield connection
            finally:
                connection.close()

    @contextlib.contextmanager
    def transaction(self, connection: Connection | None = None) -> Iterator[Work]:
        """One transaction with the eyes of --as; committed when the block ends well."""
        with contextlib.ExitStack() as stack:
            if connection is None:
                connection = stack.enter_context(self.connection())
            yield stack.enter_context(self._work(connection))

    @contextlib.contextmanager
    def _work(self, connection: Connection) -> Iterator[Work]:
        from aaa_server.storage import viewer
        from aaa_server.storage.database import transaction

        with transaction(connection) as cursor:
            eyes = viewer.enter(cursor, self.as_code) if self.as_code else viewer.operator(cursor)
            yield Work(cursor, eyes, who_types())

    def operator_only(self, what: str) -> None:
        """Refuse --as for a command that is the operator's own, before anything is opened."""
        if self.as_code:
            raise Failure(f"{what} is the operator's: leave --as {self.as_code} away")


pass_session = click.make_pass_decorator(Session)


@dataclass(frozen=True)
class Work:
    """A transaction and whose eyes it has."""

    cursor: Cursor
    viewer: Viewer
    actor: str

    def note(
        self,
        action: str,
        subject: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        acting_as_id: int | None = None,
    ) -> None:
        """Write into the audit log what this command has done. Values that did not change go."""
        from aaa_server.storage import audit_log

        if before is not None and after is not None:
            changed = [key for key in after if before.get(key) != after[key]]
            before = {key: before.get(key) for key in changed}
            after = {key: after[key] for key in changed}
        audit_log.note(
            self.cursor,
            actor=self.actor,
            acting_as_id=acting_as_id or self.viewer.account_id,
            action=action,
            subject=subject,
            before=before,
            after=after,
        )


def who_types() -> str:
    """The person at the keyboard, also behind sudo."""
    name = os.environ.get("SUDO_USER")
    if name:
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def explain_errors(command: click.Command, arguments: list[str]) -> int:
    """Run the command line; its exit status. What goes wrong becomes one line on stderr."""
    debug = "--debug" in arguments
    try:
        status = command.main(arguments, prog_name="sky-aaa", standalone_mode=False)
    except click.exceptions.Abort:
        return _complain("interrupted", 1)
    except click.ClickException as error:
        if debug and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        text = plainly(error)
        if isinstance(error, click.UsageError) and error.ctx is not None:
            text += f"\n  usage: {error.ctx.get_usage().removeprefix('Usage: ')}"
        return _complain(text, error.exit_code)
    except Exception as error:  # noqa: BLE001 - here every command ends, with the reason
        if debug:
            traceback.print_exception(error)
        text, code = explain(error)
        return _complain(text, code)
    return status if isinstance(status, int) else 0


def plainly(error: click.ClickException) -> str:
    """What click has to say of an argument, in words that say what to type instead."""
    if isinstance(error, click.NoSuchOption) and re.match(r"-[0-9.]", error.option_name):
        arguments = error.ctx.command.params if error.ctx is not None else []
        if any(one.human_readable_name == "AMOUNT" for one in arguments):
            from aaa_server.storage.payments import TO_TAKE_OFF

            return f"an amount of this command is above 0. {TO_TAKE_OFF}"
        return f"{error.option_name} is no option: what begins with - is typed behind a --"
    if isinstance(error, click.BadParameter) and error.param is not None:
        kind = error.param.type
        told = re.fullmatch(r"(.+) is not (?:a valid integer|in the range ).*", error.message)
        if told is not None and isinstance(kind, click.IntRange):
            text = f"{told[1]}: {_range_text(kind)} is expected"
            error = click.BadParameter(text, error.ctx, error.param, error.param_hint)
    return error.format_message()


def _range_text(kind: click.IntRange) -> str:
    if kind.max is None:
        return f"a whole number, at least {kind.min},"
    return f"a whole number from {kind.min} to {kind.max}"


def _complain(text: str, code: int) -> int:
    click.echo(f"sky-aaa: {text}", err=True)
    return code


def explain(error: Exception) -> tuple[str, int]:
    """An error that no command caught, as a text for a person and an exit status."""
    if isinstance(error, Problem):
        return str(error), 2 if isinstance(error, BadValue) else 1
    module = sys.modules.get("psycopg2")
    if module is not None and isinstance(error, module.Error):
        return _explain_database(error), 2 if error.pgcode in (*TOO_LARGE, *NO_CHARACTER) else 1
    # By name: their modules are slow to import, and most commands fail without them.
    if type(error).__name__ == "DatabaseUnavailable":
        return f"no database: {error}. `sky-aaa config show` says where it is looked for", 1
    if type(error).__name__ == "SecretsError":
        return f"secrets: {error}", 1
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r} has characters that are not UTF-8: type them in UTF-8", 2
    if isinstance(error, OSError):
        return f"{error.filename or 'system'}: {error.strerror or error}", 1
    return f"{type(error).__name__}: {error} (again with --debug to see where)", 1


def _explain_database(error: Any) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    state = error.pgcode or ""
    if state in TOO_LARGE:
        return f"{text}: a number or an instant of this command is too large to be stored"
    if state in NO_CHARACTER:
        return f"{text}: a text of this command has a character that cannot be stored: take it out"
    if state in ("42P01", "42703", "42883", "22023") and "sky_aaa" not in text:
        return f"{text}: the database's schema is not this program's: run `sky-aaa migrate`"
    if state == "42704" or (state == "22023" and "sky_aaa_viewer" in text):
        return f"{text}: the database has no role for --as yet: run `sky-aaa migrate`"
    if state == "42501":
        hint = error.diag.message_hint
        return f"not allowed: {text}" + (f". {hint}" if hint else "")
    return f"database: {text}"
