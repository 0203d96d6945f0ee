"""What is wrong with the files of a FreeSWITCH: `sky-aaa doctor freeswitch DIR`.

Most of these faults are silent on the switch: an attribute that its dictionary lacks loses the
whole answer while the result stays 0, a missing parameter turns accounting off.
"""

from __future__ import annotations

import re
import stat
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from aaa_server.cli.context import BadData, Session, pass_session
from aaa_server.cli.output import output_option, show_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

SHIPPED = Path(__file__).resolve().parents[2] / "lua"
SCRIPTS = ("sky_prepaid.lua", "sky_card.lua", "sky_did.lua", "sky_answer.lua", "sky_slice.lua")
FILE_OCTETS_MAX = 4 * 1024 * 1024
NAME_LENGTH_MAX = 32  # freeradius-client 1.1.7, AUTH_ID_LEN
SECRET_OCTETS_MIN = 16  # RFC 2865 §3
KNOWN_SECRETS = frozenset(("testing123", "secret", "radius", "password", "changeme", "cisco"))
TYPES = frozenset(("string", "integer", "ipaddr", "date", "ipv6addr", "ipv6prefix"))
# What mod_xml_radius wants in each <connection>; without one of them the section is not used.
CONNECTION = ("radius_timeout", "radius_retries", "radius_deadtime", "dictionary", "seqfile")
SERVERS = {"auth_app": "authserver", "acct_start": "acctserver", "acct_end": "acctserver"}
# What an answer of the server may have: one that the switch does not know loses all of them.
ANSWERED = (
    "Filter-Id", "Reply-Message", "Class", "Session-Timeout", "Proxy-State",
    "Message-Authenticator", "Chargeable-User-Identity", "Cisco-AVPair", "h323-credit-amount",
    "h323-credit-time", "h323-return-code", "h323-preferred-lang", "h323-billing-model",
    "h323-currency",
)  # fmt: skip
# What the scripts have to say, and the variable that says it.
SAID = {
    "auth_app": ("sky_account", "sky_pin", "sky_called", "sky_key", "sky_phase", "sky_ext",
                 "sky_rg_in", "sky_rg_out", "sky_mode", "sky_did", "sky_elapsed", "sky_end_msec"),
    "acct_start": ("sky_key",),
    "acct_end": ("sky_key", "sky_bill_msec", "sky_route", "direction"),
}  # fmt: skip
# What a caller decides about: cut, or a long one makes the packet malformed.
CALLER_CONTROLLED = frozenset(("caller_id_number", "destination_number", "sip_call_id"))
# FreeSWITCH always has these; another integer's variable may be missing, and that is a crash.
ALWAYS_THERE = frozenset(("billsec", "billmsec"))
UNSAFE = re.compile(r"\$\{(destination_number|caller_id_\w+|sip_\w+|effective_\w+)\}")
COPY = "copy it from lua/conf of Sky AAA"


class Finding(NamedTuple):
    """`level` is ok, warning or problem; `do` is '' when there is nothing to do."""

    level: str
    about: str
    what: str
    do: str = ""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--scripts",
    type=click.Path(path_type=Path),
    help="Where FreeSWITCH's scripts are.  [default: next to DIRECTORY, else as Debian has it]",
)
@output_option
@pass_session
@click.pass_context
def freeswitch(ctx: click.Context, session: Session, directory: Path, scripts: Path | None) -> None:
    """Look at the files of a FreeSWITCH, whose configuration is in DIRECTORY.

    It needs no FreeSWITCH and no database: a copy of /etc/freeswitch will do. Exit status 1
    when there is a problem.
    """
    if not directory.is_dir():
        raise BadData(f"{directory} is no folder: name FreeSWITCH's, as /etc/freeswitch")
    found = list(findings(directory, scripts or _scripts_of(directory)))
    show_rows(session, Finding._fields, [finding._asdict() for finding in found])
    problems = sum(finding.level == "problem" for finding in found)
    warnings = sum(finding.level == "warning" for finding in found)
    click.echo(f"{problems} problems, {warnings} warnings", err=True)
    if problems:
        ctx.exit(1)


def _scripts_of(directory: Path) -> Path:
    places = (
        directory / "scripts",
        directory.parent / "scripts",
        Path("/usr/share/freeswitch/scripts"),
    )
    return next((place for place in places if place.is_dir()), places[-1])


def findings(directory: Path, scripts: Path) -> Iterator[Finding]:
    """All that can be said about the installation."""
    values, found = _values(directory)
    yield from found
    yield from _modules(directory)
    yield from _scripts(scripts)
    transport = _transport(scripts)
    if transport == "xml_radius":
        yield from _xml_radius(directory, values)
    else:
        yield from _own_client(values)
    yield from _dialplan(directory)


# ------------------------------------------------------------------ files


def _text(path: Path) -> str:
    """At most so much of a file; what is no UTF-8 is passed over."""
    with path.open("rb") as file:
        return file.read(FILE_OCTETS_MAX).decode("utf-8", "replace")


def _values(directory: Path) -> tuple[dict[str, str], list[Finding]]:
    """Every X-PRE-PROCESS set in the folder's vars files, and what is wrong with ours."""
    values = {"conf_dir": str(directory)}
    setting = re.compile(r'<X-PRE-PROCESS\s+cmd="set"\s+data="(\w+)=([^"]*)"')
    ours = next(iter(sorted(directory.rglob("sky_vars.xml"))), None)
    for path in (directory / "vars.xml", ours):
        if path is not None and path.is_file():
            # With what is between comment marks: FreeSWITCH carries it out too.
            values |= dict(setting.findall(_text(path)))
    values = {name: _expanded(value, values) for name, value in values.items()}
    if ours is None:
        return values, [Finding("problem", "sky_vars.xml", "is not there", COPY)]
    found = []
    included = any(
        "sky_vars.xml" in re.sub(r"<!--.*?-->", "", _text(path), flags=re.S)
        for path in (directory / "vars.xml", directory / "freeswitch.xml")
        if path.is_file()
    )
    if not included:
        found.append(
            Finding(
                "problem",
                "sky_vars.xml",
                "neither vars.xml nor freeswitch.xml includes it",
                'in vars.xml: <X-PRE-PROCESS cmd="include" data="sky_vars.xml"/>',
            )
        )
    if any("X-PRE-PROCESS" in mark for mark in re.findall(r"<!--.*?-->", _text(ours), re.S)):
        found.append(
            Finding(
                "problem",
                "sky_vars.xml",
                "an X-PRE-PROCESS is between comment marks: FreeSWITCH carries it out all the same",
                "take the line out",
            )
        )
    if stat.S_IMODE(ours.stat().st_mode) & 0o007:
        found.append(
            Finding(
                "problem",
                "sky_vars.xml",
                "everybody on this machine may read the secret",
                f"chown root:freeswitch {ours} && chmod 640 {ours}",
            )
        )
    found += _secret(values.get("sky_radius_secret", ""))
    if not found:
        found.append(Finding("ok", "sky_vars.xml", f"server {values.get('sky_radius_server')}"))
    return values, found


def _secret(secret: str) -> Iterator[Finding]:
    renew = (
        "a new one: openssl rand -hex 16; at the server: sky-aaa client set NAME --secret-file FILE"
    )
    if not re.fullmatch(r"[\w.-]+", secret):
        yield Finding(
            "problem",
            "secret",
            "is empty, or has more than letters, digits, . _ and -: it would be cut there",
            renew,
        )
    elif secret.lower() in KNOWN_SECRETS:
        yield Finding("warning", "secret", "everybody knows it", renew)
    elif len(secret) < SECRET_OCTETS_MIN:
        yield Finding("warning", "secret", f"has less than {SECRET_OCTETS_MIN} octets", renew)


def _expanded(text: str, values: dict[str, str]) -> str:
    """With `$${name}` replaced; what is not set becomes nothing, as in FreeSWITCH."""
    for _ in range(3):
        text = re.sub(r"\$\$\{(\w+)\}", lambda found: values.get(found[1], ""), text)
    return text


def _parsed(path: Path, values: dict[str, str]) -> ElementTree.Element:
    """Raises ValueError for what is no XML."""
    try:
        return ElementTree.fromstring(_expanded(_text(path), values))
    except ElementTree.ParseError as error:
        raise ValueError(f"{path.name} is no XML: {error}") from error


# ------------------------------------------------------------------ what is loaded, what is run


def _modules(directory: Path) -> Iterator[Finding]:
    path = directory / "autoload_configs" / "modules.conf.xml"
    if not path.is_file():
        yield Finding("warning", "modules.conf.xml", "is not there: which modules load?")
        return
    text = re.sub(r"<!--.*?-->", "", _text(path), flags=re.S)
    for module in ("mod_lua", "mod_commands", "mod_dptools"):
        if f'"{module}"' not in text:
            yield Finding(
                "problem", module, "is not loaded", f'<load module="{module}"/> in {path.name}'
            )


def _scripts(scripts: Path) -> Iterator[Finding]:
    home = scripts / "sky"
    if not (home / SCRIPTS[0]).is_file():
        yield Finding(
            "problem", "scripts", f"{home}/{SCRIPTS[0]} is not there", f"cp -r lua {home}"
        )
        return
    shipped = [SHIPPED / name for name in SCRIPTS] + sorted((SHIPPED / "lib").glob("*.lua"))
    missing, changed = [], []
    for path in shipped:
        name = path.relative_to(SHIPPED)
        if not (home / name).is_file():
            missing.append(str(name))
        elif _text(home / name) != _text(path):
            changed.append(str(name))
    if missing:
        yield Finding("problem", "scripts", f"missing: {', '.join(missing)}", f"cp -r lua {home}")
    if changed:
        yield Finding(
            "warning",
            "scripts",
            f"not those of this version: {', '.join(changed)}",
            f"cp -r lua/*.lua lua/lib {home}, but keep your sky_settings.lua",
        )
    if not missing and not changed:
        yield Finding("ok", "scripts", f"{home} has those of this version")


def _transport(scripts: Path) -> str:
    path = scripts / "sky" / "sky_settings.lua"
    found = re.search(r'^\s*transport\s*=\s*"(\w+)"', _text(path), re.M) if path.is_file() else None
    return found[1] if found else "xml_radius"


def _own_client(values: dict[str, str]) -> Iterator[Finding]:
    if not values.get("sky_radius_server"):
        yield Finding("problem", "transport radius", "sky_radius_server is not set", "sky_vars.xml")
    else:
        yield Finding(
            "ok",
            "transport radius",
            "the scripts ask by themselves; they need luasocket, and sky-aaa switch-agent accounts",
        )


def _dialplan(directory: Path) -> Iterator[Finding]:
    used = False
    for path in sorted((directory / "dialplan").rglob("*.xml")):
        text = re.sub(r"<!--.*?-->", "", _text(path), flags=re.S)
        for data in re.findall(r'application="lua"\s+data="([^"]*sky_\w+\.lua[^"]*)"', text):
            used = True
            unsafe = UNSAFE.search(data)
            if unsafe:
                yield Finding(
                    "problem",
                    str(path.relative_to(directory)),
                    f"{unsafe[0]} is an argument: a blank in what somebody dials begins another",
                    "leave it out; the script takes it from the channel, and checks it",
                )
    if used:
        yield Finding("ok", "dialplan", "uses the scripts")
    else:
        yield Finding(
            "warning",
            "dialplan",
            "no extension uses a script",
            "the snippets of lua/conf/dialplan",
        )


# ------------------------------------------------------------------ mod_xml_radius


def _xml_radius(directory: Path, values: dict[str, str]) -> Iterator[Finding]:
    path = directory / "autoload_configs" / "xml_radius.conf.xml"
    modules = directory / "autoload_configs" / "modules.conf.xml"
    text = re.sub(r"<!--.*?-->", "", _text(modules), flags=re.S) if modules.is_file() else ""
    if text and '"mod_xml_radius"' not in text:
        yield Finding(
            "problem",
            "mod_xml_radius",
            "is not loaded",
            '<load module="mod_xml_radius"/>; where FreeSWITCH has none: transport = "radius"',
        )
    if not path.is_file():
        yield Finding("problem", path.name, "is not there", COPY)
        return
    try:
        root = _parsed(path, values)
    except ValueError as error:
        yield Finding("problem", path.name, str(error), COPY)
        return
    if root.find("global/param[@name='time_zone']") is not None:
        yield Finding(
            "problem",
            path.name,
            "time_zone is set: the module keeps a pointer into freed memory",
            "take it out and run FreeSWITCH with TZ=UTC",
        )
    if (root.find("auth_reg") is None) != (root.find("auth_invite") is None):
        yield Finding(
            "problem",
            path.name,
            "auth_reg and auth_invite: one alone is never used",
            "both or none",
        )
    dictionaries: dict[str, Dictionary] = {}
    for name in SERVERS:
        section = root.find(name)
        if section is None:
            yield Finding("problem", f"<{name}>", "is not there", COPY)
            continue
        yield from _section(name, section, dictionaries)
    for file, dictionary in dictionaries.items():
        yield from _dictionary(file, dictionary)


class Dictionary(NamedTuple):
    """Types by name, and what is wrong by line."""

    types: dict[str, str]
    faults: list[str]


def _section(
    name: str, section: ElementTree.Element, dictionaries: dict[str, Dictionary]
) -> Iterator[Finding]:
    params = [
        (param.get("name", ""), param.get("value", ""))
        for param in section.findall("connection/param")
    ]
    about = f"<{name}>"
    server = SERVERS[name]
    missing = [key for key in (server, *CONNECTION) if key not in dict(params)]
    if missing:
        yield Finding("problem", about, f"<connection> lacks {', '.join(missing)}", COPY)
    for key, value in params:
        if key == server and not re.fullmatch(r"[^:,\s]+:\d+:[\w.-]+", value):
            # With the secret in it: not shown.
            yield Finding(
                "problem", about, f"{server} is no host:port:secret", "$${…} unset? sky_vars.xml"
            )
    file = dict(params).get("dictionary", "")
    if file and file not in dictionaries:
        dictionaries[file] = _read_dictionary(Path(file))
    types = dictionaries[file].types if file else {}
    yield from _fields(about, section, types)
    said = {
        word
        for param in section.iter("param")
        for word in (param.get("variable"), param.get("variable_secondary"), param.get("var"))
    }
    silent = [variable for variable in SAID[name] if variable not in said]
    if silent:
        yield Finding("problem", about, f"does not send {', '.join(silent)}", COPY)
    if name != "auth_app" and not section.findall("conditions/condition/param[@var='direction']"):
        yield Finding(
            "warning", about, "no condition on direction: called legs are accounted too", COPY
        )


def _fields(about: str, section: ElementTree.Element, types: dict[str, str]) -> Iterator[Finding]:
    for param in section.findall("fields/param"):
        name, form = param.get("name", ""), param.get("format")
        variables = {param.get("variable"), param.get("variable_secondary")}
        if types and name not in types:
            yield Finding(
                "problem", about, f"the dictionary has no {name}: nothing is sent at all", COPY
            )
        if form is None and not name.startswith("h323-"):
            yield Finding("problem", about, f"{name} has no format: nothing is sent at all", COPY)
        elif form is not None and (form.count("%") != 1 or "%s" not in form):
            yield Finding("problem", about, f"{name}: format={form!r} needs one %s", COPY)
        if types.get(name) == "integer" and not variables & ALWAYS_THERE:
            yield Finding(
                "problem",
                about,
                f"{name} is an integer: FreeSWITCH crashes when the variable is not there",
                "leave it out",
            )
        if variables & CALLER_CONTROLLED and "regex" not in param.attrib:
            yield Finding(
                "warning",
                about,
                f"{name} has no regex: a caller who sends a long text makes the packet malformed",
                'regex="^(.{1,64})"',
            )
        if name == "User-Password" and "regex" in param.attrib:
            yield Finding(
                "problem",
                about,
                "User-Password has a regex: the module logs the PIN",
                "take it out",
            )


def _read_dictionary(path: Path) -> Dictionary:
    types: dict[str, str] = {}
    faults: list[str] = []
    try:
        lines = _text(path).splitlines()
    except OSError as error:
        return Dictionary({}, [f"{error.strerror}"])
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0] == "$INCLUDE":
            faults.append(f"line {number}: $INCLUDE is not thread safe")
        elif words[0] == "ATTRIBUTE" and len(words) >= 4:
            types[words[1]] = words[3]
            if len(words[1]) > NAME_LENGTH_MAX:
                faults.append(f"line {number}: {words[1]} is longer than {NAME_LENGTH_MAX}")
            if words[3] not in TYPES:
                faults.append(f"line {number}: the client knows no type {words[3]}")
    return Dictionary(types, faults)


def _dictionary(file: str, dictionary: Dictionary) -> Iterator[Finding]:
    about = "dictionary"
    for fault in dictionary.faults:
        yield Finding("problem", about, f"{file}: {fault}", COPY)
    if not dictionary.types:
        return
    lost = [name for name in ANSWERED if dictionary.types.get(name, "date") == "date"]
    if lost:
        yield Finding(
            "problem",
            about,
            f"{file}: lacks {', '.join(lost)}, or as a date: an answer with it loses everything",
            COPY,
        )
    elif not dictionary.faults:
        yield Finding("ok", about, f"{file} knows what the server answers")
