"""luasocket's UDP, for a Lua that cannot load C modules: real sockets behind the same calls."""

from __future__ import annotations

import socket
import time
from typing import Any


class Udp:
    """What socket.udp() returns."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self._wire = socket.socket(family, socket.SOCK_DGRAM)

    def call(self, name: bytes, *arguments: Any) -> Any:
        """A method; failures are nil, as the callers here look at the first value alone."""
        try:
            match name:
                case b"setsockname":
                    self._wire.bind((arguments[0].decode(), arguments[1]))
                case b"setpeername":
                    self._wire.connect((arguments[0].decode(), int(arguments[1])))
                case b"settimeout":
                    self._wire.settimeout(arguments[0])
                case b"send":
                    return self._wire.send(arguments[0])
                case b"receive":
                    return self._wire.recv(int(arguments[0]))
                case b"close":
                    self._wire.close()
                case _:
                    raise AssertionError(f"luasocket has no {name!r}")
        except OSError:
            return None
        return 1


def module(lua: Any) -> Any:
    """What require("socket") returns."""
    wrap = lua.eval(
        b"""function(call)
            return setmetatable({}, { __index = function(_, name)
                return function(_, ...) return call(name, ...) end
            end })
        end"""
    )
    return lua.table_from(
        {
            b"udp": lambda: wrap(Udp(socket.AF_INET).call),
            b"udp6": lambda: wrap(Udp(socket.AF_INET6).call),
            b"gettime": time.monotonic,
        }
    )
