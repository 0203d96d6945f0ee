"""`python -m tests.compiled WHAT…`: those tests on the compiled hot path, if it is there.

It is a plugin of pytest as well, which each process of the run loads before any test.
"""

from __future__ import annotations

import sys

import pytest

from aaa_server import compiled


def main(arguments: list[str]) -> int:
    """The tests' exit status; 0 where nothing is compiled."""
    reason = compiled.why_not()
    if reason:
        sys.stderr.write(f"the hot path is interpreted: {reason}\n")
        return 0
    sys.stderr.write("the hot path is compiled\n")
    return int(pytest.main(["-p", "tests.compiled", "--quiet", *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

hot_path = compiled.use()
assert hot_path == "compiled", hot_path
