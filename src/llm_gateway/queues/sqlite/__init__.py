"""The durable queue for one host: one file, any number of its processes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from llm_gateway._core.environments import EVERYWHERE, Environment
from llm_gateway._core.findings import Finding
from llm_gateway._null import SystemClock
from llm_gateway.errors import ConfigurationError
from llm_gateway.options import QueueOptions
from llm_gateway.protocols import Clock, QueueBackend
from llm_gateway.queues.sqlite.admin import FileAdmin
from llm_gateway.queues.sqlite.events import FileOutbox, FileWatch
from llm_gateway.queues.sqlite.keys import FileKeys
from llm_gateway.queues.sqlite.ledger import Ledger
from llm_gateway.queues.sqlite.mounts import MOUNT_TABLE
from llm_gateway.queues.sqlite.place import look_at_place
from llm_gateway.queues.sqlite.store import FileStore
from llm_gateway.queues.sqlite.writer import Writer

__all__ = ["SqliteQueue"]

DEFAULT_OPTIONS = QueueOptions()


class SqliteQueue(FileStore, FileAdmin, FileOutbox, FileWatch, FileKeys, QueueBackend):
    """A queue in a file of SQLite, which survives kill -9 and power loss.

    A commit is on the disk before its caller is answered. Callers that come at once share one. To be started and
    used in one event loop; other processes and loops make a queue of their own on the same file. Changes that
    another process makes are noticed within some 30 ms while somebody waits.

    Args:
        path: The file, in a folder that exists on a local disk; made if there is none.
        options: Bounds and retention.
        clock: Time; the machine's own by default. It is read in the queue's thread too.
        mount_table: Where the system lists its mounts, to recognise network filesystems.
    """

    def __init__(
        self,
        path: str | Path,
        options: QueueOptions = DEFAULT_OPTIONS,
        *,
        clock: Clock | None = None,
        mount_table: Path = MOUNT_TABLE,
    ) -> None:
        if str(path) in {"", ".", ":memory:"} or str(path).startswith("file:"):
            message = "The queue needs the path of a file."
            raise ConfigurationError(message, next_step="Give a path such as /var/lib/my-service/queue.db.")
        super().__init__(Path(path), options, clock or SystemClock(), mount_table)
        self._changing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<SqliteQueue {self._path.name} {'closed' if self._writer is None else 'open'}>"

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Everywhere."""
        return EVERYWHERE

    @property
    def durable(self) -> bool:
        """True: an accepted job survives this process and the power."""
        return True

    @property
    def findings(self) -> Sequence[Finding]:
        """What the place of the file is like, looked at now; the queue need not be open."""
        return look_at_place(self._path, self._mount_table)

    async def start(self, *, outbox: bool) -> None:
        """Open the file and take work; write the outbox if asked to.

        Once any process has asked for the outbox, all that share the file write it: a worker that publishes nothing
        must not keep the ends of tickets from a service that does.

        Raises:
            ConfigurationError: the place cannot hold a queue, or the file is something else.
            QueueUnavailable: the file is held by another process, or the disk refuses it.
        """
        async with self._changing:
            if self._writer is None:
                writer = Writer(self._open_ledger)
                await writer.start()
                try:
                    await writer.run(lambda: begin(self._opened(), outbox=outbox))
                except BaseException:
                    writer.close()
                    raise
                self._writer = writer
            else:
                await self._write(lambda ledger: begin(ledger, outbox=outbox))

    async def aclose(self) -> None:
        """Take no more work, finish what was handed over and close the file. Stored jobs stay.

        Whoever waits gets `QueueUnavailable`.
        """
        writer = self._writer
        if writer is None:
            return
        if not writer.foreign:
            writer.close()
            await writer.ended()
        self._writer = None


def begin(ledger: Ledger, *, outbox: bool) -> None:
    """Take note of the outbox, and void what was leased before the machine last started: its workers are gone."""
    if outbox:
        ledger.tally.relay(on=True)
    now = ledger.clock.monotonic()
    ledger.db.execute("UPDATE jobs SET sort = 0 WHERE place = 'held' AND renewed > ?", (now,))
    ledger.db.execute("DELETE FROM leads WHERE renewed > ?", (now,))
