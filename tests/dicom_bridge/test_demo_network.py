from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dicom_bridge.delivery.dimse.sending import find_dicom_files, send_files
from dicom_bridge.demo import instances
from dicom_bridge.demo.archive import Archive
from rcmed.errors import InputError


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "study"
    folder.mkdir()
    for number, instance in enumerate(instances.brain_series()[:3] + instances.microscopic_image()):
        instance.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    (folder / "notes.txt").write_text("not DICOM")
    return find_dicom_files(folder)


def test_what_is_sent_arrives(files: list[Path], tmp_path: Path) -> None:
    assert [path.name for path in files] == ["0.dcm", "1.dcm", "2.dcm", "3.dcm"]
    with Archive(tmp_path / "archive") as archive:
        send_files(files, "127.0.0.1", archive.port, archive.ae_title)
        assert archive.wait_until(lambda received: len(received) == 4, seconds=10)
        received = archive.received()
    series = instances.brain_series()
    assert [one.SOPInstanceUID for one in received[:3]] == [one.SOPInstanceUID for one in series[:3]]
    assert (received[0].pixel_array == series[0].pixel_array).all()


def test_waiting_wakes_at_an_arrival_and_gives_up_in_time(files: list[Path], tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        assert not archive.wait_until(lambda received: len(received) == 1, seconds=0.05)
        sender = threading.Thread(target=send_files, args=(files[:1], "127.0.0.1", archive.port, "PACS"))
        sender.start()
        assert archive.wait_until(lambda received: len(received) == 1, seconds=30)
        sender.join()


def test_the_same_instance_counts_once(files: list[Path], tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        send_files(files[:1], "127.0.0.1", archive.port, "PACS")
        send_files(files[:1], "127.0.0.1", archive.port, "PACS")
        assert len(archive.received()) == 1


def test_nobody_there_is_said_in_one_line(files: list[Path], tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        port = archive.port
    with pytest.raises(InputError, match="PACS at 127.0.0.1:[0-9]+ does not answer"):
        send_files(files, "127.0.0.1", port, "PACS")


def test_a_folder_without_dicom_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not DICOM")
    with pytest.raises(InputError, match="no DICOM file"):
        find_dicom_files(tmp_path)
