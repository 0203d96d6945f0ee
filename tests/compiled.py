"""`python tests/compiled.py FOLDER…`: those tests on the compiled hot path, if it is there."""

import sys

import pytest

from aaa_server import compiled

hot_path = compiled.use()
sys.stderr.write(f"the hot path is {hot_path}\n")
if hot_path == "compiled":
    sys.exit(pytest.main(["--quiet", *sys.argv[1:]]))
