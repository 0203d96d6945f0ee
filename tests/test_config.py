from __future__ import annotations

from pathlib import Path

import pytest

from aaa_server.config import ROOT, Config, ConfigError, load_config, mask_url


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str) -> Path:
    path = Path("conf/sky-aaa.toml").absolute()
    path.parent.mkdir()
    path.write_text(text)
    return path


def load(text: str, **environ: str) -> Config:
    return load_config(written(text), environ)


def test_without_a_file_everything_has_its_default() -> None:
    config = load_config(environ={})
    assert config.database.url == ""
    assert config.database.directory == ROOT / "var"
    assert config.secrets.key_file == ROOT / "var" / "secrets.key"
    assert (config.radius.auth_port, config.radius.acct_port) == (1812, 1813)
    assert (config.charging.overrun_seconds, config.charging.grace_seconds) == (2, 120)
    assert {origin for _, _, origin in config.shown()} == {"default"}


def test_the_environment_is_stronger_than_the_file_and_both_are_named() -> None:
    config = load(
        "[radius]\nauth_port = 11812\nacct_port = 11813\n", SKY_AAA_RADIUS_ACCT_PORT="21813"
    )
    assert (config.radius.auth_port, config.radius.acct_port) == (11812, 21813)
    assert config.origins["radius.auth_port"] == str(Path("conf/sky-aaa.toml").absolute())
    assert config.origins["radius.acct_port"] == "SKY_AAA_RADIUS_ACCT_PORT"


def test_a_list_may_be_one_text_and_in_the_environment_has_commas() -> None:
    config = load('[radius]\naddress = "192.0.2.1"\n')
    assert config.radius.address == ("192.0.2.1",)
    config = load_config(environ={"SKY_AAA_RADIUS_ADDRESS": "192.0.2.1, 2001:db8::1"})
    assert config.radius.address == ("192.0.2.1", "2001:db8::1")


def test_relative_paths_count_from_the_file_that_has_them() -> None:
    config = load('[database]\ndirectory = "data"\n')
    assert config.database.directory == Path("conf/data").absolute()
    assert config.secrets.key_file == Path("conf/data/secrets.key").absolute()
    config = load_config(environ={"SKY_AAA_DATABASE_DIRECTORY": "data"})
    assert config.database.directory == Path("data").absolute()


def test_the_file_is_found_in_the_current_folder_or_by_the_environment() -> None:
    Path("sky-aaa.toml").write_text("[metrics]\nport = 1\n")
    assert load_config(environ={}).metrics.port == 1
    path = written("[metrics]\nport = 2\n")
    assert load_config(environ={"SKY_AAA_CONFIG": str(path)}).metrics.port == 2


def test_our_own_name_of_the_database_is_stronger_than_the_common_one() -> None:
    environ = {"DATABASE_URL": "postgresql://common/x"}
    assert load_config(environ=environ).database.url == "postgresql://common/x"
    environ["SKY_AAA_DATABASE_URL"] = "postgresql://own/x"
    assert load_config(environ=environ).database.url == "postgresql://own/x"


def test_a_secret_may_be_read_from_a_file() -> None:
    Path("url").write_text("postgresql://aaa:hidden@db/x\n")
    config = load_config(environ={"SKY_AAA_DATABASE_URL_FILE": "url"})
    assert config.database.url == "postgresql://aaa:hidden@db/x"
    shown = {key: (value, origin) for key, value, origin in config.shown()}
    assert shown["database.url"] == (
        "postgresql://aaa:********@db/x",
        "SKY_AAA_DATABASE_URL_FILE",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[radius]\nauth_prot = 1", r"\[radius\] auth_prot: .* did you mean auth_port\?"),
        ("[raduis]\nauth_port = 1", r"no section \[raduis\]; did you mean radius\?"),
        ("service = ['radius']", r"service: .* did you mean services\?"),
        ("services = ['radios']", r"no service 'radios'; did you mean radius\?"),
        ("[radius]\nauth_port = 70000", "radius.auth_port: 70000 is not from 0 to 65535"),
        ("[radius]\nauth_port = '1812'", "'1812' is not a whole number"),
        ("[radius]\nauth_port = true", "True is not a whole number"),
        ("[radius]\naddress = []", "is not a list of texts"),
        ("[log]\nformat = 'xml'", "'xml' is not one of text, json"),
        ("[database]\nurl = 1", r"\*\*\*\*\*\*\*\* is not a text"),
        ("[radius", "sky-aaa.toml: "),
        (
            "[radius]\nauth_port = 1813",
            r"sky-aaa.toml: radius.acct_port and radius.auth_port are both 1813: give each its own",
        ),
        ("[switch_agent]\nacct_port = 1812", "switch_agent.acct_port and switch_agent.auth_port"),
        ("[metrics]\nport = 8080", "portal.port and metrics.port are both 8080"),
        (
            "[metrics]\nport = 8080\naddress = '0.0.0.0'\n[portal]\naddress = '192.0.2.1'",
            "portal.port and metrics.port are both 8080",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(text)


@pytest.mark.parametrize(
    "text",
    [
        "[radius]\nauth_port = 0\nacct_port = 0",
        "[metrics]\nport = 8080\n[portal]\naddress = '192.0.2.1'",
    ],
)
def test_a_port_is_shared_where_nobody_is_in_the_way(text: str) -> None:
    load(text)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SKY_AAA_RADIUS_ACCT_PORT", "1812", "SKY_AAA_RADIUS_ACCT_PORT: radius.acct_port and"),
        ("SKY_AAA_RADIUS_PORT", "1", "did you mean SKY_AAA_RADIUS_"),
        ("SKY_AAA_RADIUS_AUTH_PORT", "x", "SKY_AAA_RADIUS_AUTH_PORT: 'x' is not a whole number"),
        ("SKY_AAA_RADIUS_AUTH_PORT_FILE", "x", "there is no such setting"),
        ("SKY_AAA_DATABASE_URL_FILE", "nowhere", "No such file"),
        ("SKY_AAA_CONFIG", "nowhere", "there is no such configuration file"),
    ],
)
def test_a_wrong_variable_is_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(environ={name: value})


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:p@ss@h/d", "postgresql://u:********@h/d"),
        ("postgresql://u@h/d?password=x&port=1", "postgresql://u@h/d?password=********&port=1"),
        ("host=h password='a b' user=u", "host=h password=******** user=u"),
        ("", ""),
    ],
)
def test_a_password_is_never_shown(url: str, masked: str) -> None:
    assert mask_url(url) == masked
