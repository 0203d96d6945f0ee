"""What holds for every command: help, errors, exit status, forms of output."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from rich.console import Console

from aaa_server.cli.main import COMMANDS, cli
from aaa_server.cli.output import Amount, rich_table

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Sky

HEAVY = ("psycopg2", "twisted", "rich.table", "pyrad", "cryptography")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_a_help_that_says_what_it_is_for(bare: Sky, name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    verbs = list(command.commands) if isinstance(command, click.Group) else []
    for words in ([name], *([name, verb] for verb in verbs)):
        ran = bare(*words, "--help")
        assert ran.status == 0
        assert ran.out.startswith("Usage: sky-aaa " + " ".join(words))
        assert len(ran.out.splitlines()) > 4


def test_the_help_names_every_command_and_imports_none_of_them() -> None:
    program = (
        "import sys; from aaa_server.cli.context import explain_errors\n"
        "from aaa_server.cli.main import cli\n"
        "explain_errors(cli, ['--help'])\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stderr.strip() == "[]"
    for name in COMMANDS:
        assert f"  {name} " in ran.stdout


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("acount", "list"), "did you mean account"),
        (("account", "lst"), "'list'"),
        (("account", "list", "--knd", "customer"), "'--kind'"),
        (("account", "list", "--kind", "custmer"), "'customer'"),
        (("nonsense",), "`sky-aaa --help` lists them"),
    ],
)
def test_a_wrong_command_says_what_to_type(bare: Sky, words: tuple[str, ...], hint: str) -> None:
    ran = bare(*words)
    assert ran.status == 2
    assert hint in ran.err
    assert ran.out == ""


def test_an_error_is_one_clear_line_without_a_traceback(empty: Sky) -> None:
    ran = empty("account", "list")
    assert ran.status == 1
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert "account add admin --kind admin" in ran.err


def test_a_database_that_is_not_there_is_named(
    bare: Sky, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SKY_AAA_DATABASE_URL", f"postgresql:///sky?host={tmp_path}")
    ran = bare("account", "list")
    assert ran.status == 1
    assert "no database" in ran.err
    assert "sky-aaa config show" in ran.err


def test_a_database_without_schema_says_migrate(
    bare: Sky, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKY_AAA_DATABASE_URL", empty_database_url)
    ran = bare("account", "list")
    assert ran.status == 1
    assert "sky-aaa migrate" in ran.err


def test_migrate_lists_then_applies_then_has_nothing_to_do(
    bare: Sky, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKY_AAA_DATABASE_URL", empty_database_url)
    listed = bare("migrate", "--dry-run", "-o", "json")
    assert listed.json[0] == {"migration": "0001_create_core.sql"}
    assert bare("migrate", "-o", "json").json == listed.json
    again = bare("migrate")
    assert (again.status, again.out) == (0, "")
    assert "up to date" in again.err


def test_a_wrong_configuration_is_named_with_its_place(bare: Sky, settings: Path) -> None:
    settings.write_text("[radius]\nauth_prt = 1812\n")
    ran = bare("config", "check")
    assert ran.status == 2
    assert "auth_prt" in ran.err
    assert "auth_port" in ran.err


def test_config_show_masks_the_password(bare: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKY_AAA_DATABASE_URL", "postgresql://sky:verysecret@db/sky")
    ran = bare("config", "show", "-o", "json")
    [url] = [row for row in ran.json if row["key"] == "database.url"]
    assert "verysecret" not in ran.out
    assert url["set_in"] == "SKY_AAA_DATABASE_URL"


def test_amounts_in_json_are_strings(unchanged: Sky) -> None:
    ran = unchanged("account", "show", "alice", "-o", "json")
    assert ran.json["balance"] == "50.000000"
    assert ran.json["max_channels"] == 0


def test_output_is_chosen_before_or_after_the_command(unchanged: Sky) -> None:
    assert (
        unchanged("-o", "json", "account", "list").out
        == unchanged("account", "list", "-o", "json").out
    )


def test_csv_has_one_head_and_one_line_for_each(unchanged: Sky) -> None:
    rows = list(csv.DictReader(io.StringIO(unchanged("account", "list", "-o", "csv").out)))
    assert len(rows) == 17
    assert next(row for row in rows if row["code"] == "carl")["currency"] == "EUR"


def test_a_table_that_is_piped_is_plain_and_aligned(unchanged: Sky) -> None:
    lines = unchanged("account", "list").out.splitlines()
    column = lines[0].index("status")
    assert {line[column:] for line in lines[1:]} == {"active", "suspended"}
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(bare: Sky, shell: str) -> None:
    ran = bare("completion", shell)
    assert ran.status == 0
    assert "_SKY_AAA_COMPLETE" in ran.out


@pytest.mark.parametrize(
    ("typed", "place", "expected"),
    [
        ("rate-g", "1", "rate-group"),
        ("account top", "2", "top-up"),
        ("serve --proc", "2", "--processes"),
    ],
)
def test_completion_knows_nouns_verbs_and_options(
    bare: Sky,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
    place: str,
    expected: str,
) -> None:
    monkeypatch.setenv("_SKY_AAA_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"sky-aaa {typed}")
    monkeypatch.setenv("COMP_CWORD", place)
    with pytest.raises(SystemExit):
        bare()
    assert capsys.readouterr().out == f"plain,{expected}\n"


def test_a_narrow_terminal_breaks_no_number() -> None:
    rows = [{"name": "a long name of many words", "amount": Amount("1234567.000001"), "calls": 7}]
    console = Console(width=24, file=io.StringIO(), force_terminal=True)
    console.print(rich_table(("name", "amount", "calls"), rows))
    assert isinstance(console.file, io.StringIO)
    assert "1234567.000001" in console.file.getvalue()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--as", "north", "--as", "admin"), "'--as': it is given more than once"),
        (("--as", "north", "--as=north"), "'--as': it is given more than once"),
        (("--as", ""), "'--as': it is empty"),
        (("--config", "a.toml", "--config", "b.toml"), "'--config': it is given more than once"),
    ],
)
def test_what_a_wrapper_has_set_is_not_overruled(
    bare: Sky, words: tuple[str, ...], hint: str
) -> None:
    ran = bare(*words, "config", "show")
    assert (ran.status, ran.out) == (2, "")
    assert hint in ran.err


def test_the_configuration_named_by_the_environment_may_have_a_colon_in_its_path(
    bare: Sky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a:b.toml"
    file.write_text("[radius]\nauth_port = 11\n")
    monkeypatch.setenv("SKY_AAA_CONFIG", str(file))
    assert str(file) in bare("config", "show").out
    other = tmp_path / "other.toml"
    other.write_text("")
    assert str(file) not in bare("--config", str(other), "config", "show").out
