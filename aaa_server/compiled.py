"""The hot modules as machine code, where that was made of the sources as they are now.

`make compiled` has mypyc translate `MODULES` into a folder of the environment, with the
hashes of what it read. A server looks there before it imports them: when one source has
changed since, or nothing was made, all of them are interpreted. The answers are the same.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import sysconfig
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

PACKAGE = Path(__file__).parent
FOLDER = Path(sys.prefix) / "compiled"
HASHES = "sources.json"
# The one library that holds the code of all of them.
LIBRARY = "sky_aaa__mypyc"
# rating.money is not among them: the command line has imported it by then.
MODULES = (
    "aaa_server.rating.rate",
    "aaa_server.rating.prefix",
    "aaa_server.rating.band",
    "aaa_server.rating.tariff",
    "aaa_server.rating.lcr",
    "aaa_server.charging.requests",
    "aaa_server.charging.numbers",
    "aaa_server.charging.call",
    "aaa_server.charging.did",
    "aaa_server.charging.meter",
    "aaa_server.charging.catalogue",
    "aaa_server.charging.ledger",
    "aaa_server.charging.account_code",
    "aaa_server.charging.digest",
    "aaa_server.charging.credential",
    "aaa_server.charging.card",
    "aaa_server.charging.choice",
    "aaa_server.charging.routing",
    "aaa_server.charging.inbound_call",
    "aaa_server.charging.metering",
    "aaa_server.charging.pricing",
    "aaa_server.charging.authorize",
    "aaa_server.charging.settle",
    "aaa_server.charging.rerate",
    "aaa_server.charging.decide",
    "aaa_server.storage.arrays",
    "aaa_server.storage.charging_record",
    "aaa_server.storage.charging_memory",
    "aaa_server.storage.charging",
    "aaa_server.group_commit",
    "aaa_server.radius.packet",
    "aaa_server.radius.attribute",
    "aaa_server.radius.client",
    "aaa_server.radius.receive",
    "aaa_server.radius.server",
    "aaa_server.radius.value",
    "aaa_server.radius.call",
    "aaa_server.radius.dialects.credential",
    "aaa_server.radius.dialects.reply",
    "aaa_server.radius.dialects.rfc",
    "aaa_server.radius.dialects.cisco",
    "aaa_server.radius.dialects.freeswitch",
    "aaa_server.radius.dialects.kamailio",
    "aaa_server.radius.dialects.sippy",
    "aaa_server.radius.dialect",
    "aaa_server.auth",
    "aaa_server.accounting",
)


class Finder(MetaPathFinder):
    """Finds the compiled modules in a folder, and knows no others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self,
        fullname: str,
        _path: Sequence[str] | None = None,
        _target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != LIBRARY and fullname not in MODULES:
            return None
        file = str(library_file(self._folder, fullname))
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, file))


def use(folder: Path = FOLDER) -> str:
    """Have the hot modules imported from `folder` if it is current; what will run, in words.

    To be called before any of them is imported: compiled and interpreted ones do not mix.
    """
    reason = why_not(folder)
    loaded = [name for name in MODULES if name in sys.modules]
    if loaded and not reason:
        reason = f"{loaded[0]} was imported too early"
    if reason:
        return f"interpreted: {reason}"
    sys.meta_path.insert(0, Finder(folder))
    # All at once, so that a folder that is made anew changes nothing for this process.
    for name in MODULES:
        importlib.import_module(name)
    return "compiled"


def why_not(folder: Path = FOLDER) -> str:
    """Why what is in `folder` cannot be used, in words; '' when it can."""
    try:
        made_of = json.loads((folder / HASHES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "not compiled; make compiled"
    now = hashes()
    if made_of.keys() != now.keys():
        return "compiled for another version; make compiled"
    for name, digest in now.items():
        if made_of[name] != digest:
            return f"{name} has changed since it was compiled; make compiled"
    return ""


def hashes() -> dict[str, str]:
    """By module, the SHA-256 of its source; and the Python that the code would be for."""
    found = {name: hashlib.sha256(source_file(name).read_bytes()).hexdigest() for name in MODULES}
    return {**found, "Python": str(sysconfig.get_config_var("SOABI"))}


def source_file(name: str) -> Path:
    """What a module is compiled from."""
    return PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py")


def library_file(folder: Path, name: str) -> Path:
    """Where a module is when it is compiled."""
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    return folder.joinpath(*name.split(".")).with_suffix(suffix)
