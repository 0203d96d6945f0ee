"""What is copied onto a switch fits together, and luacheck has nothing to say."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

import pytest

from aaa_server.radius import attribute
from tests.lua.switch import ROOT, RUNTIMES, SCRIPTS
from tests.lua.xml_radius import read_dictionary

if TYPE_CHECKING:
    from pathlib import Path

CONF = SCRIPTS / "conf"
ALL_XML = sorted(CONF.rglob("*.xml"))
ALL_LUA = sorted(SCRIPTS.rglob("*.lua"))
DICTIONARY = read_dictionary((CONF / "dictionary").read_text(encoding="utf-8"))


def test_luacheck_finds_nothing() -> None:
    luacheck = shutil.which("luacheck")
    assert luacheck is not None, "luacheck is needed (Debian: lua-check)"
    done = subprocess.run(
        [luacheck, "--quiet", "--config", SCRIPTS / ".luacheckrc", SCRIPTS],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", ALL_LUA, ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_every_lua_understands_it(path: Path) -> None:
    for name in RUNTIMES:
        lua = importlib.import_module(f"lupa.{name}").LuaRuntime()
        lua.compile(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", ALL_XML, ids=lambda path: path.name)
def test_the_xml_is_well_formed_and_names_scripts_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    for script in re.findall(r'application="lua" data="sky/(\S+?)[ "]', text):
        assert (SCRIPTS / script).is_file(), script


def test_everything_that_the_transport_sets_is_sent() -> None:
    source = (SCRIPTS / "lib" / "transport_xml_radius.lua").read_text(encoding="utf-8")
    table = source[source.index("local VARIABLES") : source.index("function transport.ask")]
    asked = {*re.findall(r'"(sky_\w+)"', table), "sky_pin"}
    root = ElementTree.fromstring((CONF / "xml_radius.conf.xml").read_text(encoding="utf-8"))
    section = root.find("auth_app")
    assert section is not None
    sent = {param.get("variable") for param in section.iter("param")}
    assert {name for name in sent if name and name.startswith("sky_")} == asked


def test_the_dictionary_s_numbers_are_the_server_s() -> None:
    for constant, key in vars(attribute).items():
        name = constant.replace("_", "-").lower()
        found = {n.lower(): a.key for n, a in DICTIONARY.items()}
        if constant.isupper() and constant.startswith(("H323", "ACCT", "CALL")) and name in found:
            assert found[name] == key, constant


def test_nothing_that_freeswitch_carries_out_is_between_comment_marks() -> None:
    """It reads X-PRE-PROCESS before it knows of comments, one in a line."""
    for path in ALL_XML:
        text = path.read_text(encoding="utf-8")
        for comment in re.findall(r"<!--.*?-->", text, flags=re.S):
            assert "X-PRE-PROCESS" not in comment, path.name
        for line in text.splitlines():
            assert "X-PRE-PROCESS" not in line or re.fullmatch(
                r'\s*<X-PRE-PROCESS cmd="set" data="[^"]*"/>', line
            ), line
            # A line with one of these is dropped, whatever else it has.
            assert "include>" not in line or line.strip() in ("<include>", "</include>"), line


def test_a_pre_processed_value_is_defined() -> None:
    """FreeSWITCH replaces one that is not by nothing."""
    ours = (CONF / "sky_vars.xml").read_text(encoding="utf-8")
    defined = {*re.findall(r'data="(\w+)=', ours), "conf_dir"}
    for path in ALL_XML:
        used = set(re.findall(r"\$\$\{(\w+)\}", path.read_text(encoding="utf-8")))
        assert used <= defined, path.name
