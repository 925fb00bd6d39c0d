"""The command itself: help, version, complaints."""

from __future__ import annotations

import json
import os
import sys

import anyio
import pytest

from llm_gateway.cli.arguments import COMMANDS
from llm_gateway.cli.main import main

LOADED = """
import json, sys
from llm_gateway.cli.main import main
try:
    main(["--help"])
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""
HEAVY = {"aiohttp", "anyio", "asyncio", "httpx", "pydantic", "pydantic_settings", "rich"}


async def test_help_loads_nothing() -> None:
    """Help needs none of the library's dependencies."""
    done = await anyio.run_process([sys.executable, "-c", LOADED])
    assert set() == HEAVY & set(json.loads(done.stderr))


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command explains each of its options."""
    with pytest.raises(SystemExit) as caught:
        main([*name.split(), "--help"])
    out = capsys.readouterr().out
    assert (0, True) == (caught.value.code, out.startswith(f"usage: llm-gateway {name} "))


async def test_module() -> None:
    """``python -m llm_gateway`` is the same command."""
    done = await anyio.run_process([sys.executable, "-m", "llm_gateway", "--version"])
    assert done.stdout.startswith(b"llm-gateway 0")


@pytest.mark.parametrize("arguments", [[], ["queue"], ["queue", "show"], ["worker", "--processes", "0"], ["sing"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A command line that cannot be understood is one line that names --help, and exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    told = capsys.readouterr()
    assert (2, "", 1, True) == (caught.value.code, told.out, told.err.count("\n"), "--help" in told.err)


@pytest.mark.parametrize("arguments", [["worker"], ["queue", "stats"], ["lane", "list"]])
@pytest.mark.parametrize("queue", ["none", "memory"])
async def test_needs_a_shared_queue(arguments: list[str], queue: str) -> None:
    """Without a queue that another process can work on the command says so, with exit code 2."""
    environment = {"PATH": os.environ["PATH"], "ENVIRONMENT": "testing", "LLM_GATEWAY_QUEUE": queue}
    command = [sys.executable, "-m", "llm_gateway", *arguments]
    done = await anyio.run_process(command, env=environment, check=False)
    assert (2, 1, True) == (done.returncode, done.stderr.count(b"\n"), b"LLM_GATEWAY_QUEUE" in done.stderr)
