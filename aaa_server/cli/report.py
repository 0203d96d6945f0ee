"""`sky-aaa report`: every report by name, as a table or a file; and by e-mail.

Each report is a command whose options are the parameters of its header.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import output_option, show_rows
from aaa_server.cli.report_schedule import schedule
from aaa_server.storage.problem import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from web_reports.report import Report
    from web_reports.report_run import Result

FORMATS = ("table", "json", "csv", "xlsx", "pdf", "html")
BINARY = ("xlsx", "pdf")
OWN = ("period", "from_", "to", "group_by", "output", "out", "language", "time_zone", "ties")


class _Reports(click.Group):
    """`list`, `schedule`, and a command for each report."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from web_reports.report import reports

        return [*super().list_commands(ctx), *(one.name for one in reports())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from web_reports.report import find

        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        try:
            return _command(find(cmd_name))
        except NotFound as error:
            raise BadData(str(error)) from error


class _ReportCommand(click.Command):
    """Names what is allowed when somebody gives what is not."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            allowed = [one for parameter in self.params for one in parameter.opts]
            raise click.UsageError(
                f"report {self.name} has no {error.option_name}: allowed are {', '.join(allowed)}",
                ctx,
            ) from error


@click.group(cls=_Reports)
def report() -> None:
    """What happened and how things stand: one command for each report."""


@report.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """All reports, with what they can be asked."""
    from web_reports.report import reports

    with session.transaction() as work:
        operator = work.viewer.is_operator
    rows = [
        {
            "report": one.name,
            "title": one.title,
            "about": one.about,
            "period": one.period or None,
            "group_by": one.groups(operator=operator),
            "parameters": [asked.name for asked in one.asked(operator=operator)],
            "ties_to": [tie.title for tie in one.ties],
        }
        for one in reports(operator=operator)
    ]
    columns: tuple[str, ...] = ("report", "about", "group_by", "parameters")
    if session.output != "table":
        columns = ("report", "title", "about", "period", "group_by", "parameters", "ties_to")
    show_rows(session, columns, rows)


report.add_command(schedule)


def _command(one: Report) -> click.Command:
    """The command of a report."""
    from web_reports.period import FORMS, PRESETS

    params: list[click.Parameter] = []
    if one.period:
        presets = ", ".join(PRESETS)
        params += [
            click.Option(
                ["--period"],
                metavar="NAME",
                help=f"{presets}; {FORMS}.  [default: {one.period}]",
            ),
            click.Option(["--from", "from_"], metavar="WHEN", help="The period's beginning."),
            click.Option(["--to"], metavar="WHEN", help="Up to, not including.  [default: a day]"),
        ]
    groups = one.groups(operator=True)
    if groups:
        default = ",".join(one.default_group)
        params.append(
            click.Option(
                ["--group-by"],
                metavar="A,B,C",
                help=f"At most three of {', '.join(groups)}.  [default: {default}]",
            )
        )
    for asked in one.parameters:
        about = asked.about + (f" One of: {', '.join(asked.choices)}." if asked.choices else "")
        if asked.default is not None:
            shown = {True: "yes", False: "no"}.get(asked.default, asked.default)
            about += f"  [default: {shown}]"
        params.append(
            click.Option([asked.option, asked.name], metavar=asked.kind.upper(), help=about)
        )
    params += [
        click.Option(["--ties/--no-ties"], default=True, help="Compare with the ledger."),
        click.Option(
            ["--language"], metavar="TAG", help="en, de, es, fr.  [default: the reader's]"
        ),
        click.Option(["--time-zone"], metavar="ZONE", help="[default: the reader's]"),
        click.Option(["-o", "--output"], type=click.Choice(FORMATS), help="As what it is written."),
        click.Option(["--out"], metavar="FILE", help="Where to; - is standard output."),
    ]

    @click.pass_context
    def run(ctx: click.Context, /, **given: Any) -> None:
        session = ctx.find_object(Session)
        assert session is not None
        _run(session, one, given)

    return _ReportCommand(
        one.name, params=params, callback=run, help=f"{one.about}", short_help=one.about
    )


def _run(session: Session, one: Report, given: dict[str, Any]) -> None:
    from web_reports.report_run import Question, running

    form = given["output"] or session.output
    target = given["out"] or "-"
    if target == "-" and form in BINARY and sys.stdout.isatty():
        raise BadData(f"{form} is not for a terminal: say where to, --out FILE")
    question = Question(
        period=given.get("period") or "",
        begin=given.get("from_") or "",
        end=given.get("to") or "",
        group_by=tuple(filter(None, (given.get("group_by") or "").split(","))),
        values={name: value for name, value in given.items() if name not in OWN and value},
        language=given["language"] or "",
        time_zone=given["time_zone"] or "",
    )
    with (
        session.connection() as connection,
        running(connection, one, question, as_code=session.as_code) as result,
    ):
        _write(result, form, target, ties=given["ties"])


def _write(result: Result, form: str, target: str, *, ties: bool) -> None:
    from web_reports import report_files as files
    from web_reports.cells import Speaker

    if form in BINARY:
        with _binary(target) as octets:
            if form == "xlsx":
                files.write_xlsx(result, octets, ties=ties)
            else:
                from web_reports.report_page import write_pdf

                write_pdf(result, octets, ties=ties)
        return
    with _text(target) as file:
        if form == "csv":
            files.write_csv(result, file)
        elif form == "json":
            files.write_json(result, file, ties=ties)
        elif form == "html":
            from web_reports.report_page import write_html

            write_html(result, file, ties=ties)
        else:
            files.write_table(result, file, ties=ties)
    if form == "csv" and ties:
        # A file of rows has no place for it.
        for line in files.tie_texts(result, Speaker(result.language, result.zone)):
            click.echo(line, err=True)


@contextlib.contextmanager
def _text(target: str) -> Iterator[IO[str]]:
    if target == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    with _new_file(target) as path, path.open("w", encoding="utf-8", newline="") as file:
        yield file


@contextlib.contextmanager
def _binary(target: str) -> Iterator[IO[bytes]]:
    if target == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with _new_file(target) as path, path.open("wb") as file:
        yield file


@contextlib.contextmanager
def _new_file(target: str) -> Iterator[Path]:
    """A file beside the target that takes its place once it is whole."""
    path = Path(target)
    if not path.parent.is_dir():
        raise BadData(f"--out: there is no folder {path.parent}")
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o644)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
