"""The command, on a queue file that is put in by hand: ``python program.py ARGUMENTS`` with QUEUE_FILE set."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from llm_gateway import wiring
from llm_gateway.cli.main import main
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.settings import Settings

QUEUE = "_queue"


def by_hand(settings: Settings) -> SqliteQueue:
    """Make the queue of the file."""
    return SqliteQueue(Path(os.environ["QUEUE_FILE"]), settings.queue_options)


if __name__ == "__main__":
    setattr(wiring, QUEUE, by_hand)
    sys.exit(main())
