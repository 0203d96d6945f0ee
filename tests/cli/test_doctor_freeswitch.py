"""The doctor reads a FreeSWITCH's files: what is shipped is right, and each fault is found."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aaa_server.cli.doctor_freeswitch import Finding, findings

if TYPE_CHECKING:
    from tests.cli.conftest import Sky

LUA = Path(__file__).resolve().parents[2] / "lua"
SECRET = "0123456789abcdef0123456789abcdef"
CONF = "autoload_configs/xml_radius.conf.xml"
MODULES = """<configuration name="modules.conf"><modules>
  <load module="mod_commands"/> <load module="mod_dptools"/>
  <load module="mod_lua"/> <load module="mod_xml_radius"/>
</modules></configuration>
"""


@pytest.fixture
def switch(tmp_path: Path) -> Path:
    """/etc/freeswitch after the steps of docs/freeswitch.md; its scripts are beside it."""
    folder = tmp_path / "freeswitch"
    for name in ("autoload_configs", "radius", "dialplan/default", "dialplan/public"):
        (folder / name).mkdir(parents=True)
    for name in ("xml_radius.conf.xml", "lua.conf.xml"):
        shutil.copy(LUA / "conf" / name, folder / "autoload_configs")
    shutil.copy(LUA / "conf" / "dictionary", folder / "radius")
    shutil.copy(LUA / "conf/dialplan/sky_outbound.xml", folder / "dialplan/default")
    shutil.copy(LUA / "conf/dialplan/sky_dids.xml", folder / "dialplan/public")
    (folder / "autoload_configs/modules.conf.xml").write_text(MODULES)
    (folder / "vars.xml").write_text(
        '<include>\n  <X-PRE-PROCESS cmd="include" data="sky_vars.xml"/>\n</include>\n'
    )
    ours = (LUA / "conf/sky_vars.xml").read_text().replace("testing123", SECRET)
    (folder / "sky_vars.xml").write_text(ours)
    (folder / "sky_vars.xml").chmod(0o640)
    shutil.copytree(LUA, tmp_path / "scripts" / "sky")
    return folder


def found(switch: Path, level: str = "problem") -> list[Finding]:
    scripts = switch.parent / "scripts"
    return [finding for finding in findings(switch, scripts) if finding.level == level]


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new))


def test_what_is_shipped_is_healthy(sky: Sky, switch: Path) -> None:
    ran = sky("doctor", "freeswitch", str(switch), "-o", "json")
    assert [row for row in ran.json if row["level"] != "ok"] == []
    assert ran.status == 0
    assert SECRET not in ran.out


def test_a_problem_is_an_exit_status(sky: Sky, switch: Path) -> None:
    (switch / "sky_vars.xml").unlink()
    ran = sky("doctor", "freeswitch", str(switch), "-o", "json")
    assert ran.status == 1
    assert "problems" in ran.err


XML = "xml_radius.conf.xml"
DICTIONARY = "radius/dictionary"
OUTBOUND = "dialplan/default/sky_outbound.xml"
LOADED = "autoload_configs/modules.conf.xml"
PIN = 'variable="sky_pin"'
SERVER_2 = '<X-PRE-PROCESS cmd="set" data="sky_radius_server_2="/>'
FILTER = "Filter-Id\t\t11\tstring"


@pytest.mark.parametrize(
    ("file", "old", "new", "about", "words"),
    [
        (CONF, 'variable="sky_phase"', 'variable="phase"', "<auth_app>", "sky_phase"),
        (CONF, 'name="seqfile"', 'name="sequence"', "<auth_app>", "lacks seqfile"),
        (CONF, ":1813:", ":", "<acct_end>", "no host:port:secret"),
        (CONF, 'format="route=%s"', 'format="route=%d"', "<acct_end>", "needs one %s"),
        (CONF, 'name="Class"', 'name="Clase"', "<acct_end>", "the dictionary has no Clase"),
        (CONF, 'variable="billsec"', 'variable="my_seconds"', "<acct_end>", "crashes"),
        (CONF, "</global>", '<param name="time_zone" value="UTC"/></global>', XML, "time_zone"),
        (CONF, "<acct_start>", "<acct_begin>", XML, "no XML"),
        (CONF, "</configuration>", "<auth_reg/></configuration>", XML, "one alone"),
        (CONF, PIN, f'{PIN} regex="(.*)"', "<auth_app>", "logs the PIN"),
        (DICTIONARY, "ATTRIBUTE\tFilter-Id", "# ", "dictionary", "lacks Filter-Id"),
        (DICTIONARY, "VENDOR\t\tCisco", "$INCLUDE x\nVENDOR Cisco", "dictionary", "$INCLUDE"),
        (DICTIONARY, FILTER, "Filter-Id 11 date", "dictionary", "date"),
        (DICTIONARY, FILTER, "Filter-Id 11 octets", "dictionary", "no type octets"),
        ("vars.xml", "sky_vars.xml", "other.xml", "sky_vars.xml", "includes it"),
        ("sky_vars.xml", SECRET, "a:b", "secret", "cut there"),
        ("sky_vars.xml", SERVER_2, f"<!-- {SERVER_2} -->", "sky_vars.xml", "comment marks"),
        (LOADED, "mod_lua", "mod_v8", "mod_lua", "not loaded"),
        (LOADED, "mod_xml_radius", "mod_x", "mod_xml_radius", "not loaded"),
        (OUTBOUND, "aid.lua", "aid.lua dest=${destination_number}", OUTBOUND, "begins another"),
        ("../scripts/sky/sky_slice.lua", "", "", "scripts", "missing: sky_slice.lua"),
    ],
)
def test_a_fault_is_found_and_what_to_do_is_said(
    switch: Path, file: str, old: str, new: str, about: str, words: str
) -> None:
    if old:
        change(switch / file, old, new)
    else:
        (switch / file).unlink()
    problems = [
        finding for finding in found(switch) if finding.about == about and words in finding.what
    ]
    assert problems
    assert all(finding.do for finding in problems)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (CONF, 'regex="^(.{1,128})" ', "", "long text"),
        (CONF, 'var="direction"', 'var="way"', "called legs"),
        ("sky_vars.xml", SECRET, "testing123", "everybody knows"),
        ("sky_vars.xml", SECRET, "short", "less than 16"),
        ("dialplan/default/sky_outbound.xml", "sky/sky_prepaid.lua", "other.lua", ""),
        ("../scripts/sky/sky_slice.lua", "main()", "-- main()", "not those of this version"),
        ("autoload_configs/modules.conf.xml", "", "", "which modules"),
    ],
)
def test_what_is_only_unwise_is_a_warning(
    switch: Path, file: str, old: str, new: str, words: str
) -> None:
    if old:
        change(switch / file, old, new)
    else:
        (switch / file).unlink()
    if not words:
        shutil.rmtree(switch / "dialplan/public")
        words = "no extension uses a script"
    assert any(words in finding.what for finding in found(switch, "warning"))
    assert found(switch) == []


def test_the_secret_s_file_is_not_everybody_s(switch: Path) -> None:
    (switch / "sky_vars.xml").chmod(0o644)
    assert [finding.what for finding in found(switch)] == [
        "everybody on this machine may read the secret"
    ]


def test_a_newer_switch_asks_by_itself(switch: Path) -> None:
    """Without mod_xml_radius its files are not looked for."""
    change(switch.parent / "scripts/sky/sky_settings.lua", '"xml_radius"', '"radius"')
    (switch / CONF).unlink()
    change(switch / "autoload_configs/modules.conf.xml", '<load module="mod_xml_radius"/>', "")
    assert found(switch) == []


def test_an_empty_folder_is_told_what_it_lacks(tmp_path: Path) -> None:
    assert {finding.about for finding in found(tmp_path)} == {
        "sky_vars.xml",
        "scripts",
        "xml_radius.conf.xml",
    }


def test_a_folder_that_is_none_is_bad_data(sky: Sky) -> None:
    ran = sky("doctor", "freeswitch", "/nowhere")
    assert ran.status == 2
    assert "/nowhere is no folder" in ran.err
