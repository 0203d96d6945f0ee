"""The configuration: one TOML file, the environment over it, and every limit's name.

A key `[radius] auth_port` is `SKY_AAA_RADIUS_AUTH_PORT` in the environment; a secret may also
be read from the file that `SKY_AAA_DATABASE_URL_FILE` names. A key that nobody knows is an
error, for a mistyped limit is worse than none.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import typing
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE_NAME = "sky-aaa.toml"
PREFIX = "SKY_AAA_"
# The folder that the package stands in: a clone of the project, where `make run` is typed.
ROOT = Path(__file__).resolve().parent.parent
MASK = "********"


class ConfigError(ValueError):
    """What is wrong with the configuration, where, and what to write instead."""


def _port(default: int) -> Any:
    return field(default=default, metadata={"minimum": 0, "maximum": 65535})


def _number(default: int, *, minimum: int, maximum: int) -> Any:
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum})


def _choice(default: str, *others: str) -> Any:
    return field(default=default, metadata={"choices": (default, *others)})


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """`url` "" means the embedded PostgreSQL in `directory`."""

    url: str = field(default="", metadata={"secret": True})
    directory: Path = Path("var")


@dataclass(frozen=True, slots=True)
class RadiusConfig:
    """Every address is bound at both ports; port 0 takes a free one.

    `digest_realm` is the only one that digests may have; "" allows any.
    """

    address: tuple[str, ...] = ("0.0.0.0", "::")
    auth_port: int = _port(1812)
    acct_port: int = _port(1813)
    processes: int = _number(1, minimum=1, maximum=256)
    digest_realm: str = ""


@dataclass(frozen=True, slots=True)
class ChargingConfig:
    """`slice_seconds` 0: the whole grant is reserved at once.

    `assume_lost` says what a call that fell silent without a known second costs.
    """

    slice_seconds: int = _number(0, minimum=0, maximum=86_400)
    grace_seconds: int = _number(120, minimum=0, maximum=86_400)
    overrun_seconds: int = _number(2, minimum=0, maximum=3_600)
    maximum_call_seconds: int = _number(7_200, minimum=1, maximum=86_400)
    assume_lost: str = _choice("nothing", "slice")
    pin_failures_max: int = _number(5, minimum=1, maximum=100)
    pin_lock_seconds: int = _number(900, minimum=1, maximum=604_800)
    batch_max: int = _number(512, minimum=1, maximum=10_000)
    waiting_max: int = _number(20_000, minimum=1, maximum=1_000_000)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """`json` writes one object a line, for machines."""

    format: str = _choice("text", "json")


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Where /metrics, /livez and /readyz are; a taken port leads to the next free one."""

    address: str = "127.0.0.1"
    port: int = _port(9812)


@dataclass(frozen=True, slots=True)
class PortalConfig:
    """Where the pages are."""

    address: str = "127.0.0.1"
    port: int = _port(8080)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How often each job runs, and how long records are kept; 0 days or months: for ever.

    `ring_seconds` is how long a call may have rung of whose answer nobody has told. What is
    invoiced, written, mailed or reminded of is said for each issuer: `sky-aaa invoice schedule`.
    """

    fees_seconds: int = _number(3_600, minimum=1, maximum=86_400)
    route_quality_seconds: int = _number(300, minimum=1, maximum=86_400)
    route_quality_hours: int = _number(24, minimum=1, maximum=744)
    low_balance_seconds: int = _number(60, minimum=1, maximum=86_400)
    expiry_seconds: int = _number(300, minimum=1, maximum=86_400)
    call_records_seconds: int = _number(21_600, minimum=1, maximum=86_400)
    rollups_seconds: int = _number(300, minimum=1, maximum=86_400)
    invoice_run_seconds: int = _number(900, minimum=1, maximum=86_400)
    invoice_documents_seconds: int = _number(300, minimum=1, maximum=86_400)
    invoice_folder: Path = Path("var/invoices")
    invoice_mail_seconds: int = _number(60, minimum=1, maximum=86_400)
    reminders_seconds: int = _number(3_600, minimum=1, maximum=86_400)
    scheduled_reports_seconds: int = _number(60, minimum=1, maximum=86_400)
    mail_tries_max: int = _number(12, minimum=1, maximum=1_000)
    mail_megabytes_max: int = _number(10, minimum=1, maximum=1_000)
    housekeeping_seconds: int = _number(86_400, minimum=1, maximum=604_800)
    event_days: int = _number(400, minimum=0, maximum=100_000)
    call_record_months: int = _number(0, minimum=0, maximum=1_200)
    ring_seconds: int = _number(60, minimum=0, maximum=3_600)


@dataclass(frozen=True, slots=True)
class SwitchAgentConfig:
    """Of `sky-aaa switch-agent`, which runs beside a FreeSWITCH and needs nothing else of this.

    `servers` are addresses, asked in this order. `bind` is the switch's own address towards
    them; orders come there too. 0 means: no orders, no Interim-Updates.
    """

    event_socket: str = "127.0.0.1"
    event_socket_port: int = field(default=8021, metadata={"minimum": 1, "maximum": 65535})
    event_socket_password: str = field(default="", metadata={"secret": True, "masked": True})
    servers: tuple[str, ...] = ("127.0.0.1",)
    auth_port: int = field(default=1812, metadata={"minimum": 1, "maximum": 65535})
    acct_port: int = field(default=1813, metadata={"minimum": 1, "maximum": 65535})
    secret: str = field(default="", metadata={"secret": True, "masked": True})
    bind: str = ""
    order_port: int = _port(3799)
    nas_identifier: str = ""
    sign_accounting: str = _choice("yes", "no")
    timeout_seconds: int = _number(2, minimum=1, maximum=30)
    tries: int = _number(2, minimum=1, maximum=10)
    interim_seconds: int = _number(60, minimum=0, maximum=3_600)
    slice_margin_seconds: int = _number(10, minimum=1, maximum=600)
    reconcile_seconds: int = _number(60, minimum=1, maximum=3_600)
    lost_seconds: int = _number(30, minimum=0, maximum=3_600)
    spool: Path = Path("var/switch-agent")
    spool_megabytes: int = _number(256, minimum=1, maximum=65_536)


@dataclass(frozen=True, slots=True)
class SmtpConfig:
    """The mail server that invoices, reminders and reports are given to; "" for `host`: none.

    `sender` "" is the issuer's own address; `user` "" does not log in.
    """

    host: str = ""
    port: int = field(default=587, metadata={"minimum": 1, "maximum": 65535})
    encryption: str = _choice("starttls", "tls", "none")
    user: str = ""
    password: str = field(default="", metadata={"secret": True, "masked": True})
    sender: str = ""


@dataclass(frozen=True, slots=True)
class SecretsConfig:
    """`key_file` is made at the first start, beside the embedded database."""

    key_file: Path = Path("var/secrets.key")


@dataclass(frozen=True, slots=True)
class Config:
    """All of it; `origins` tells where each "section.key" was set."""

    services: tuple[str, ...] = ("radius", "worker")
    database: DatabaseConfig = DatabaseConfig()
    radius: RadiusConfig = RadiusConfig()
    charging: ChargingConfig = ChargingConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
    portal: PortalConfig = PortalConfig()
    worker: WorkerConfig = WorkerConfig()
    switch_agent: SwitchAgentConfig = SwitchAgentConfig()
    smtp: SmtpConfig = SmtpConfig()
    secrets: SecretsConfig = SecretsConfig()
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    def shown(self) -> Iterator[tuple[str, str, str]]:
        """Every key, its value as text with secrets masked, and where it was set."""
        for key, specification in _keys().items():
            value = _get(self, key)
            yield key, _masked(value, specification), self.origins.get(key, "default")


SERVICES = ("radius", "worker")
SECTIONS: dict[str, type] = {
    "database": DatabaseConfig,
    "radius": RadiusConfig,
    "charging": ChargingConfig,
    "log": LogConfig,
    "metrics": MetricsConfig,
    "portal": PortalConfig,
    "worker": WorkerConfig,
    "switch_agent": SwitchAgentConfig,
    "smtp": SmtpConfig,
    "secrets": SecretsConfig,
}


def load_config(path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration from `path`, else `SKY_AAA_CONFIG`, else the sky-aaa.toml that is found.

    One is looked for in the current folder, then in the project's. Relative paths count from
    the file that has them, in the environment from the current folder, and by default from
    the project's folder. Raises `ConfigError`.
    """
    environ = os.environ if environ is None else environ
    file = _find_file(path, environ)
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    if file is not None:
        for key, value in _read_file(file).items():
            values[key] = _checked(key, value, file.parent, f"{file}: {key}")
            origins[key] = str(file)
    for key, (text, origin) in _read_environment(environ).items():
        values[key] = _checked(key, _parsed(key, text, origin), Path.cwd(), origin)
        origins[key] = origin
    config = _built(values, origins)
    _refuse_shared_ports(config)
    return config


def _built(values: Mapping[str, object], origins: dict[str, str]) -> Config:
    complete = dict(values)
    for key, specification in _keys().items():
        if key not in complete and isinstance(specification.default, Path):
            complete[key] = ROOT / specification.default
    if "database.directory" in values and "secrets.key_file" not in values:
        # Two installations on one machine differ in the folder, and then in the key as well.
        directory = values["database.directory"]
        assert isinstance(directory, Path)
        complete["secrets.key_file"] = directory / "secrets.key"
        origins["secrets.key_file"] = "database.directory"
    top: dict[str, Any] = {"origins": origins}
    for name, section in SECTIONS.items():
        top[name] = section(
            **{
                key.partition(".")[2]: value
                for key, value in complete.items()
                if key.startswith(f"{name}.")
            }
        )
    if "services" in complete:
        top["services"] = complete["services"]
    return Config(**top)


def _refuse_shared_ports(config: Config) -> None:
    """Two listeners cannot have one port; 0 takes a free one each time."""
    for one, other in (
        ("radius.auth_port", "radius.acct_port"),
        ("switch_agent.auth_port", "switch_agent.acct_port"),
        ("metrics.port", "portal.port"),
    ):
        port = _get(config, other)
        if not port or port != _get(config, one):
            continue
        if one == "metrics.port" and not _meet(config.metrics.address, config.portal.address):
            continue
        where = config.origins.get(other) or config.origins.get(one, "default")
        raise ConfigError(f"{where}: {other} and {one} are both {port}: give each its own")


def _meet(address: str, other: str) -> bool:
    """Whether what listens at the one is in the way of the other."""
    return address == other or not {"0.0.0.0", "::"}.isdisjoint((address, other))


def _keys() -> dict[str, Field[Any]]:
    """Every key, "services" or "section.name", with what may stand there."""
    keys = {"services": Config.__dataclass_fields__["services"]}
    for name, section in SECTIONS.items():
        for item in fields(section):
            keys[f"{name}.{item.name}"] = item
    return keys


def _get(config: Config, key: str) -> object:
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _find_file(path: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    named = path or environ.get(f"{PREFIX}CONFIG")
    if named:
        file = Path(named).expanduser().absolute()
        if not file.is_file():
            raise ConfigError(f"{file}: there is no such configuration file")
        return file
    for folder in (Path.cwd(), ROOT):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def _read_file(file: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {_reason(error)}") from error
    flat: dict[str, object] = {}
    for name, value in document.items():
        if name in SECTIONS and isinstance(value, dict):
            for key, inner in value.items():
                flat[f"{name}.{key}"] = inner
        elif isinstance(value, dict):
            raise ConfigError(f"{file}: there is no section [{name}]{_suggestion(name, SECTIONS)}")
        else:
            flat[name] = value
    known = _keys()
    for key in flat:
        if key not in known:
            section, _, name = key.rpartition(".")
            where = f"[{section}] " if section else ""
            beside = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == section]
            raise ConfigError(
                f"{file}: {where}{name}: there is no such key{_suggestion(name, beside)}"
            )
    return flat


def _read_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Key -> (text, where it was set)."""
    known = _keys()
    variables = {PREFIX + key.replace(".", "_").upper(): key for key in known}
    found: dict[str, tuple[str, str]] = {}
    # What other software sets for the same purpose; the name of our own is stronger.
    if environ.get("DATABASE_URL"):
        found["database.url"] = (environ["DATABASE_URL"], "DATABASE_URL")
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name == f"{PREFIX}CONFIG":
            continue
        key = variables.get(name)
        if key is not None:
            found[key] = (text, name)
            continue
        key = variables.get(name.removesuffix("_FILE"))
        if key is None or not known[key].metadata.get("secret"):
            raise ConfigError(f"{name}: there is no such setting{_suggestion(name, variables)}")
        if name.removesuffix("_FILE") in environ:
            continue
        try:
            found[key] = (Path(text).read_text(encoding="utf-8").strip(), name)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}: {text}: {_reason(error)}") from error
    return found


def _reason(error: Exception) -> str:
    """Why a file cannot be read, without the words of Python."""
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        octet = error.object[error.start]
        return f"line {line} is not UTF-8 (octet 0x{octet:02x}): save it as UTF-8"
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _suggestion(name: str, known: typing.Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are {', '.join(names)}" if len(names) <= 12 else ""


def _parsed(key: str, text: str, origin: str) -> object:
    """The text of an environment variable in the type of its key; lists are cut at commas."""
    default = _keys()[key].default
    if isinstance(default, int):
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ConfigError(f"{origin}: {text!r} is not a whole number")
        return int(text)
    if isinstance(default, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _checked(key: str, value: object, folder: Path, where: str) -> object:
    """`value` in its key's type and bounds."""
    specification = _keys()[key]
    metadata, default = specification.metadata, specification.default
    shown = MASK if metadata.get("secret") else repr(value)
    if isinstance(default, tuple):
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not items or not all(isinstance(i, str) for i in items):
            raise ConfigError(f"{where}: {shown} is not a list of texts")
        return _known_services(items, where) if key == "services" else tuple(items)
    if isinstance(default, int):
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f"{where}: {shown} is not a whole number")
        if not metadata["minimum"] <= value <= metadata["maximum"]:
            raise ConfigError(
                f"{where}: {value} is not from {metadata['minimum']} to {metadata['maximum']}"
            )
        return value
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {shown} is not a text")
    if isinstance(default, Path):
        return folder / Path(value).expanduser()
    if "choices" in metadata and value not in metadata["choices"]:
        raise ConfigError(f"{where}: {shown} is not one of {', '.join(metadata['choices'])}")
    return value


def _known_services(names: list[str], where: str) -> tuple[str, ...]:
    for name in names:
        if name not in SERVICES:
            raise ConfigError(f"{where}: there is no service {name!r}{_suggestion(name, SERVICES)}")
    return tuple(names)


def _masked(value: object, specification: Field[Any]) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    text = str(value)
    if specification.metadata.get("masked"):
        return MASK if text else ""
    return mask_url(text) if specification.metadata.get("secret") else text


def mask_url(url: str) -> str:
    """A database URL, or libpq's "key=value" words, without the password."""
    url = re.sub(r"(://[^:/@\s]*:)[^/\s]*(?=@)", rf"\g<1>{MASK}", url)
    return re.sub(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^&\s]*)", rf"\g<1>{MASK}", url)
