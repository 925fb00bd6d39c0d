"""What the place of the file is like: filesystem, free disk, who may read it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from llm_gateway._core.findings import Finding
from llm_gateway.queues.sqlite.mounts import filesystem_of, network_filesystem, read_mounts

__all__ = ["look_at_place"]

SHORT_BYTES: Final = 1024**3
MIB: Final = 1024**2
OTHERS: Final = 0o077
BESIDE: Final = ("", "-wal", "-shm")


def look_at_place(path: Path, mount_table: Path) -> Sequence[Finding]:
    """Look at the place of a queue file. Nothing is opened or written."""
    place = path.absolute().parent.resolve() / path.name
    return (
        Finding("sqlite.path", "ok", f"{place}, {_size(place)}"),
        _filesystem(place, mount_table),
        _free_disk(place.parent),
        _permissions(place),
    )


def _size(place: Path) -> str:
    sizes = [each.stat().st_size for each in _files(place)]
    return f"{sum(sizes) / MIB:.1f} MiB" if sizes else "not made yet"


def _filesystem(place: Path, mount_table: Path) -> Finding:
    mounts = read_mounts(mount_table)
    remote = network_filesystem(place, mounts)
    if remote is not None:
        step = "Put the file on a local disk; for several hosts use Redis."
        return Finding("sqlite.filesystem", "failure", f"{remote}: locks do not hold over a network", step)
    kind = filesystem_of(place, mounts)
    if not kind:
        return Finding("sqlite.filesystem", "unknown", "the system has no table of mounts", "See that it is local.")
    if kind in {"tmpfs", "ramfs"}:
        step = "Put the file on a disk."
        return Finding("sqlite.filesystem", "warning", f"{kind}: tickets are lost when the machine stops", step)
    return Finding("sqlite.filesystem", "ok", kind)


def _free_disk(folder: Path) -> Finding:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("sqlite.disk", "failure", f"{folder}: {error.strerror}", "Make the folder of the queue file.")
    if free < SHORT_BYTES:
        return Finding(
            "sqlite.disk", "warning", f"{free // MIB} MiB free", "Free some disk: a full one refuses tickets."
        )
    return Finding("sqlite.disk", "ok", f"{free // MIB} MiB free")


def _permissions(place: Path) -> Finding:
    open_to = [each.name for each in _files(place) if each.stat().st_mode & OTHERS]
    if open_to:
        step = "Take the rights of others away: chmod 600."
        return Finding("sqlite.permissions", "warning", f"others may open {', '.join(open_to)}", step)
    return Finding("sqlite.permissions", "ok", "only the owner may open it")


def _files(place: Path) -> Iterable[Path]:
    return [each for suffix in BESIDE if (each := place.with_name(place.name + suffix)).exists()]
