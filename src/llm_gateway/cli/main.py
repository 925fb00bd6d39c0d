"""From the command line to an exit code. What a command needs is imported when it runs, so that help is quick."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from llm_gateway.cli.arguments import parser
from llm_gateway.errors import ConfigurationError, InvalidRequest, LLMGatewayError, MissingDependencyError

__all__ = ["main"]

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 done, 1 the operation failed, 2 it was asked or set up wrongly.

    Args:
        arguments: What follows the name of the command; ``None`` takes those of the process.
    """
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except (ConfigurationError, InvalidRequest, MissingDependencyError) as error:
        return _complain(error, USAGE)
    except LLMGatewayError as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has closed it; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(options: Namespace) -> int:
    if options.command == "worker":
        from llm_gateway.cli.worker import run_worker

        return run_worker(options)
    if options.command == "doctor":
        from llm_gateway.cli.doctor import run_doctor

        return run_doctor(options)
    from llm_gateway.cli.operating import run_operation

    return run_operation(options)


def _complain(error: LLMGatewayError, code: int) -> int:
    sys.stderr.write(f"llm-gateway: {' '.join(str(error).split())}\n")
    return code
