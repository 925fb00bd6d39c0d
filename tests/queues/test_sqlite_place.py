"""What the place of a queue file is found to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_gateway.queues.sqlite import SqliteQueue


def levels(path: Path, table: Path) -> dict[str, str]:
    """Return how each thing stands."""
    return {finding.name: finding.level for finding in SqliteQueue(path, mount_table=table).findings}


@pytest.mark.parametrize(
    ("mounts", "level"),
    [("dev / ext4 rw", "ok"), ("dev / nfs4 rw", "failure"), ("dev / tmpfs rw", "warning"), ("", "unknown")],
)
def test_filesystem(tmp_path: Path, mounts: str, level: str) -> None:
    """A local disk is well, a network fails, memory is a warning, and without a table nothing is known."""
    (tmp_path / "mounts").write_text(mounts)
    assert level == levels(tmp_path / "queue.db", tmp_path / "mounts")["sqlite.filesystem"]


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """A file that is not there yet is looked for and not made."""
    levels(tmp_path / "queue.db", tmp_path / "mounts")
    assert [] == list(tmp_path.iterdir())


def test_others_may_not_read(tmp_path: Path) -> None:
    """A file, or one beside it, that others may open is a warning."""
    path, log = tmp_path / "queue.db", tmp_path / "queue.db-wal"
    for each in (path, log):
        each.touch(0o600)
    assert "ok" == levels(path, tmp_path / "mounts")["sqlite.permissions"]
    log.chmod(0o640)
    assert "warning" == levels(path, tmp_path / "mounts")["sqlite.permissions"]
