"""What the file system under a folder promises about names."""

from __future__ import annotations

import re
from pathlib import Path

# In their journals the change of a name and the file's inode are one transaction, and syncing the file writes all
# transactions up to it (ext4: rename marks the inode dirty in its transaction, fsync commits that one; XFS forces its
# log up to the inode's last change; the same is asked of btrfs by the kernel's tests, fstests generic/322).
_NAMES_FOLLOW_FILES = frozenset({"ext3", "ext4", "xfs", "btrfs"})
_MOUNTS = Path("/proc/self/mountinfo")


def names_follow_files(folder: Path, mounts: Path = _MOUNTS) -> bool:
    """Whether syncing a file that was named before makes its name durable, too, as POSIX does not promise.

    False wherever that is not known: another file system, a network, no table of mounts.

    Args:
        folder: that is there.
        mounts: the kernel's table of mounts (proc(5), mountinfo).
    """
    try:
        lines = mounts.read_text().splitlines()
        place = folder.resolve(strict=True)
    except OSError:
        return False
    found: tuple[int, str] = (-1, "")
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind:
            continue
        mount = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4]))
        # Of several mounts on one place the last one is seen.
        if place.is_relative_to(mount) and len(mount.parts) >= found[0]:
            found = len(mount.parts), kind[0]
    return found[1] in _NAMES_FOLLOW_FILES
