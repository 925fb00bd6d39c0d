"""What a test run against mutants does differently: the tests are collected once and run in a fork for each mutant.

A failing example is enough, nobody wants the smallest one. Orders come and outcomes go over the standard input, which
is a socket: each order is how many seconds a run may take, each outcome the exit code of that run, or ``hung``.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import Phase, settings

settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("mutants")

LOOK_SECONDS: Final = 0.01


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> object:
    """Run the collected tests once for each order, each time in a process of its own."""
    with socket.socket(fileno=os.dup(0)) as wire, wire.makefile("r", encoding="ascii") as orders:
        for order in orders:
            child = os.fork()
            if child == 0:
                # Here pytest goes on as if there had been no orders.
                os.setsid()
                return None
            wire.sendall(f"{outcome_of(child, float(order))}\n".encode("ascii"))
    return True


def outcome_of(child: int, limit: float) -> str:
    """Wait for a run to end, and leave neither a process nor a server of it behind."""
    until = time.monotonic() + limit
    try:
        while time.monotonic() < until:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return str(os.waitstatus_to_exitcode(status))
            time.sleep(LOOK_SECONDS)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "hung"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
