"""``python -m llm_gateway``: the command, as installed."""

from __future__ import annotations

import sys

from llm_gateway.cli.main import main

__all__: tuple[str, ...] = ()

if __name__ == "__main__":
    sys.exit(main())
