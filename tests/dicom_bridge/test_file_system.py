"""Which file systems keep names with files, and what is synced for an instance on each."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_bridge.store.files import instance_files as files
from dicom_bridge.store.files.file_system import names_follow_files
from dicom_bridge.store.files.instance_files import InstanceFiles


def mounts(folder: Path, *entries: tuple[str, str]) -> Path:
    table = folder / "mountinfo"
    table.write_text(
        "".join(f"36 35 98:0 / {place} rw,noatime shared:1 - {kind} /dev/vda rw\n" for place, kind in entries)
    )
    return table


@pytest.mark.parametrize(
    ("entries", "follow"),
    [
        ([("/", "ext4")], True),
        ([("/", "xfs")], True),
        ([("/", "overlay")], False),
        ([("/", "ext4"), ("{state}", "nfs4")], False),
        ([("/", "nfs4"), ("{state}", "btrfs")], True),
        ([("/", "ext4"), ("{state}", "xfs"), ("{state}", "fuse.sshfs")], False),
        ([("/", "ext4"), ("{state}/elsewhere", "nfs4")], True),
        ([], False),
    ],
)
def test_the_mount_nearest_to_the_folder_decides(tmp_path: Path, entries: list[tuple[str, str]], follow: bool) -> None:
    state = tmp_path / "state folder"
    state.mkdir()
    told = [(place.format(state=str(state).replace(" ", "\\040")), kind) for place, kind in entries]
    assert names_follow_files(state, mounts(tmp_path, *told)) is follow


def test_without_a_table_of_mounts_nothing_is_assumed(tmp_path: Path) -> None:
    assert not names_follow_files(tmp_path, tmp_path / "nothing")


@pytest.mark.parametrize("follow", [False, True])
def test_what_is_synced_for_each_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, follow: bool) -> None:
    monkeypatch.setattr(files, "names_follow_files", lambda folder: follow)
    synced: list[str] = []
    really = files.sync_folder

    def sync(folder: Path) -> None:
        synced.append(folder.name)
        really(folder)

    monkeypatch.setattr(files, "sync_folder", sync)
    stored = InstanceFiles(tmp_path)
    stored.prepare()
    for number in (1, 2):
        stored.put([b"one", b"two"], stored.path_of("1.2", "1.2.3", f"1.2.3.{number}"))
    # The folders of a series once, on any file system.
    assert synced == ["1.2.3", "1.2", "instances", *([] if follow else ["1.2.3"])]
    assert stored.path_of("1.2", "1.2.3", "1.2.3.2").read_bytes() == b"onetwo"
