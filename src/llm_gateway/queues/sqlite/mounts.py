"""Recognising network filesystems, on which SQLite's locks and shared memory do not hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

__all__ = ["MOUNT_TABLE", "filesystem_of", "network_filesystem", "read_mounts"]

MOUNT_TABLE: Final = Path("/proc/self/mounts")
NETWORK: Final = frozenset(
    {
        "afs",
        "afpfs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "smb2",
        "smb3",
        "smbfs",
        "vboxsf",
    }
)
# FUSE names the program behind it: of these it is known that the files lie on another machine.
REMOTE_FUSE: Final = frozenset(
    {"blobfuse", "blobfuse2", "ceph", "davfs2", "gcsfuse", "glusterfs", "goofys", "mountpoint-s3", "rclone", "s3fs"}
    | {"sshfs", "juicefs", "nfs", "smbnetfs", "afpfs", "curlftpfs"}
)
OCTAL: Final = re.compile(r"\\([0-7]{3})")


def read_mounts(table: Path) -> str:
    """Read the table of mounts; empty where the system has none."""
    try:
        return table.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def network_filesystem(path: Path, mounts: str) -> str | None:
    """Return the type of the network filesystem that *path* lies on, ``None`` when it is none that is known.

    Args:
        path: An absolute path without symbolic links.
        mounts: Lines of ``device mountpoint type options``, as in ``/proc/self/mounts``.
    """
    if path.as_posix().startswith("//"):
        return "UNC path"
    kind = filesystem_of(path, mounts)
    driver, _, program = kind.partition(".")
    remote = kind in NETWORK or (driver in {"fuse", "fuseblk"} and program in REMOTE_FUSE)
    return kind if remote else None


def filesystem_of(path: Path, mounts: str) -> str:
    """Return the type of the filesystem that *path* lies on; empty when the table does not tell."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        _, mountpoint, found, *_ = *line.split(" "), "", "", ""
        # Of mounts on the same place the last one is seen.
        if mountpoint and (depth := covers(mountpoint, path)) >= best:
            best, kind = depth, found
    return kind


def covers(mountpoint: str, path: Path) -> int:
    """Return how deep a mount point is that *path* lies under; -2 when it does not."""
    # The table writes blanks and other odd characters as octal numbers.
    place = Path(OCTAL.sub(lambda match: chr(int(match.group(1), 8)), mountpoint))
    return len(place.parts) if path.is_relative_to(place) else -2
