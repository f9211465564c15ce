"""Where the time of receiving goes: samples of the threads that serve associations, by what they are at.

python benchmarks/receive_shares.py [--associations 4] [--instances 400]

The receiver of the gateway (its port, files and index) in this process; senders as in `receive.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from receive import prepare, send

from dicom_bridge.ingest.dimse.scp import StorageScp
from dicom_bridge.ingest.intake import InstanceIntake
from dicom_bridge.settings import ReceiveSettings
from dicom_bridge.store.database import Database
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex

SAMPLE_SECONDS = 0.002
# The first one that is on a thread's stack names what it is at.
PLACES = (
    ("read_header", "reading the header"),
    ("sync_folder", "syncing the folder"),
    ("put", "writing the file and syncing it"),
    ("do_commit", "committing rows"),
    ("_do", "writing rows"),
    ("submit", "waiting for the group that is being committed"),
    ("take", "looking whether it is new, and whether there is room"),
    ("_answer", "answering"),
    ("_sleep", "waiting for the sender"),
    ("_read_data", "reading the connection"),
    ("run_reactor", "the rest of the association"),
)


def place_of(frame) -> str | None:  # type: ignore[no-untyped-def]
    names = set()
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    if "_is_transport_event" not in names and "do_action" not in names:
        return None
    return next((words for name, words in PLACES if name in names), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--associations", type=int, default=4)
    parser.add_argument("--instances", type=int, default=400)
    asked = parser.parse_args()
    found: Counter[str] = Counter()
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            found.update(place for place in map(place_of, sys._current_frames().values()) if place is not None)

    with tempfile.TemporaryDirectory(prefix="rcmed-receive-") as work:
        dealt = prepare(Path(work) / "send", "receive", [asked.associations], asked.instances)
        settings = ReceiveSettings(port=0)
        files = InstanceFiles(Path(work) / "state", keeps_cached=settings.keep_cached)
        files.prepare()
        database = Database(Path(work) / "state" / "index.sqlite")
        scp = StorageScp(settings, InstanceIntake(settings, files, StudyIndex(database)))
        scp.start()
        threading.Thread(target=sample, daemon=True).start()
        used = time.process_time()
        seconds = send(dealt[asked.associations], scp.port)
        used = time.process_time() - used
        ended.set()
        scp.stop()
        database.close()
    print(f"{asked.associations} associations, {seconds:.2f} s, {1000 * used / asked.instances:.1f} ms CPU an instance")
    for place, count in found.most_common():
        print(f"| {place} | {count / found.total():.0%} |")


if __name__ == "__main__":
    main()
