"""README and docs name what exists: settings, commands, options, codes, flags, files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from aaa_server.cli.cdr import FLAGS
from aaa_server.cli.main import COMMANDS, cli
from aaa_server.config import Config
from aaa_server.radius.dialects.reply import RETURN_CODES, SIP_STATUSES

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {
    path.name: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
# A command as it is typed, in a block or between backquotes; it goes on to the line's end.
COMMAND = re.compile(r"(?:^|`|\| )(?:\.venv/bin/)?sky-aaa ([^`\n#]*)", re.M)


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table whose heading begins so, cell by cell."""
    lines = text[text.index(heading) :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        cells = line.strip("|").replace("\\|", "¦").split("|")
        rows.append([cell.strip() for cell in cells])
    return rows


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_setting_is_listed_with_its_default() -> None:
    listed = {named(row[0])[0]: "".join(named(row[1])) for row in table(README, "| key | default")}
    shipped = {key: value for key, value, _ in Config().shown()}
    assert listed == shipped


def commands() -> list[tuple[str, str]]:
    found = []
    for name, text in TEXTS.items():
        joined = re.sub(r"\\\n\s*", "", text)
        found += [(name, typed.strip()) for typed in COMMAND.findall(joined)]
    return found


@pytest.mark.parametrize(("name", "typed"), commands(), ids=lambda value: str(value)[:60])
def test_commands_and_options_that_are_named_exist(name: str, typed: str) -> None:
    # `client add | list` names several, `import-rates FILE …` leaves out.
    first = re.split(r" [|<>;]|[…(,]| and ", typed)[0]
    words = [word for word in shlex.split(first) if word]
    while words and words[0].startswith("-"):
        del words[: 1 if words[0] in ("--help", "--version", "--debug") else 2]
    command: click.Command = cli
    while words and isinstance(command, click.Group):
        context = click.Context(command)
        step = command.get_command(context, words[0])
        assert step is not None, f"{name}: sky-aaa {typed}: no {words[0]}"
        command = step
        del words[0]
    options = {option for parameter in command.params for option in parameter.opts}
    options |= {option for parameter in command.params for option in parameter.secondary_opts}
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given <= options | {"--help"}, f"{name}: sky-aaa {typed}"


def test_every_command_has_its_module() -> None:
    for entry in COMMANDS.values():
        assert (ROOT / "aaa_server" / "cli" / f"{entry.module}.py").is_file(), entry.module


def test_files_that_are_named_exist() -> None:
    folders = ("aaa_server/", "dictionaries/", "docs/", "tests/", "bench/")
    for text in TEXTS.values():
        for path in re.findall(r"`([\w./]+)`", text):
            if path.startswith(folders) and "NNNN" not in path and "local" not in path:
                assert (ROOT / path).exists(), path


def test_the_return_codes_are_those_of_the_replies() -> None:
    listed = {
        named(row[0])[0]: (int(row[1]), int(row[2]))
        for row in table(TEXTS["radius.md"], "| reason | h323-return-code")
    }
    assert listed == {
        reason.value: (RETURN_CODES[reason], SIP_STATUSES[reason]) for reason in RETURN_CODES
    }


def test_the_flags_are_those_of_the_records() -> None:
    text = TEXTS["money.md"]
    ending = text[text.index("## How it ends") : text.index("## The ledger")]
    words = {word for word in named(ending) if re.fullmatch(r"[a-z]+(-[a-z]+)*", word)}
    assert words >= FLAGS.keys()
    assert words - FLAGS.keys() == set()
