"""`python -m aaa_server.compile`: makes what `aaa_server.compiled` uses; `make compiled` runs it.

With --wanted it only says by its exit status whether there is anything to be made, and
anything to make it with.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from aaa_server import compiled

# -O2 is not measurably faster, and takes nearly twice as long to compile.
OPTIMIZATION = "1"


def main(arguments: list[str]) -> int:
    """Compile unless that is done or cannot be; the exit status."""
    if not compiled.why_not():
        return 1 if "--wanted" in arguments else 0
    lacking = lacks()
    if lacking:
        sys.stderr.write(f"{lacking}: the server is interpreted, and slower\n")
        return 1
    if "--wanted" not in arguments:
        make(compiled.FOLDER)
    return 0


def lacks() -> str:
    """What is needed to compile and not there, in words; '' when nothing is."""
    compiler = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"no C compiler ({compiler}; Debian: apt-get install gcc python3-dev)"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "no Python headers (Debian: apt-get install python3-dev)"
    return ""


def make(folder: Path) -> None:
    """Compile into `folder`, which is replaced only by what can be imported."""
    hashes = compiled.hashes()  # first: what changes meanwhile is not in it
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="compiling-") as place:
        made = Path(place, "made")
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                _translate(Path(place), made)
        except BaseException:
            sys.stderr.write(said.getvalue())
            raise
        (made / compiled.HASHES).write_text(json.dumps(hashes, indent=1), encoding="utf-8")
        # A module that cannot live may take its process along.
        trial = f"from pathlib import Path; from aaa_server import compiled; {_TRIAL}"
        subprocess.run([sys.executable, "-c", trial, made], check=True)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


_TRIAL = "import sys; used = compiled.use(Path(sys.argv[1])); assert used == 'compiled', used"


def _translate(place: Path, made: Path) -> None:
    # Needed here only: a server has no mypy.
    from mypyc.build import mypycify
    from setuptools import setup

    root = compiled.PACKAGE.parent
    os.chdir(root)
    sources = [str(compiled.source_file(name).relative_to(root)) for name in compiled.MODULES]
    extensions = mypycify(
        ["--config-file", "pyproject.toml", "--cache-dir", str(place / "cache"), *sources],
        opt_level=OPTIMIZATION,
        debug_level="0",
        target_dir=str(place / "c"),
        group_name=compiled.LIBRARY.removesuffix("__mypyc"),
    )
    setup(
        name="sky-aaa-compiled",
        packages=[],
        py_modules=[],
        ext_modules=extensions,
        script_args=[
            *("--quiet", "build_ext", "--build-lib", str(made)),
            *("--build-temp", str(place / "objects")),
        ],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
