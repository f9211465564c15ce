"""How long the status page takes with many studies: its overview, the list, searches and filters of it.

    python benchmarks/status_page.py --studies 500 --instances 200

An index is filled (SQLite; PostgreSQL too where its programs are), served as the gateway serves it, and each address is
asked over HTTP again and again. Milliseconds on the wall: the median, and the slowest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "dicom_bridge" / "support"))

import httpx  # noqa: E402
from sqlalchemy import URL, insert, text  # noqa: E402

from dicom_bridge.jobs.control import JobControl  # noqa: E402
from dicom_bridge.jobs.ledger import JobLedger  # noqa: E402
from dicom_bridge.operations.study_listing import StudyListing  # noqa: E402
from dicom_bridge.settings import WebSettings  # noqa: E402
from dicom_bridge.store.database import Database  # noqa: E402
from dicom_bridge.store.index import StudyIndex  # noqa: E402
from dicom_bridge.store.marks import FindingMarks  # noqa: E402
from dicom_bridge.store.study_facts import StudyFacts, searched_text  # noqa: E402
from dicom_bridge.store.tables import (  # noqa: E402
    AssociationRow,
    DeliveryRow,
    InstanceRow,
    JobRow,
    SeriesRow,
    StudyRow,
)
from dicom_bridge.store.timeline import StudyTimeline  # noqa: E402
from dicom_bridge.web.application import build_application  # noqa: E402
from dicom_bridge.web.server import WebServer  # noqa: E402
from dicom_bridge.web.status import Shown, status_pages  # noqa: E402
from postgresql_server import PostgresqlServer, server_programs  # noqa: E402

_ADDRESSES = {
    "overview": "/",
    "a page of 50": "/studies",
    "the last page": "/studies?page={pages}",
    "search by accession number": "/studies?q=A-000417",
    "search by description, a page of 50": "/studies?q=abdomen",
    "search for what is not there": "/studies?q=nothing+of+the+kind",
    "only answered, a page of 50": "/studies?state=answered",
    "only failed": "/studies?state=failed",
    "waiting for a destination": "/studies?destination=pacs&delivery=waiting",
    "failed deliveries": "/failed",
}
_STATES = (*["done"] * 16, "failed", "queued", "refused", None)


def fill(database: Database, studies: int, instances: int) -> None:
    """So many studies of two series each, the last one an hour old, with jobs in every state."""
    began = time.time() - 3600 - 60 * studies
    with database.writing() as session:
        for number in range(studies):
            study, at, state = f"1.2.826.0.1.{number + 1}", began + 60 * number, _STATES[number % len(_STATES)]
            told = StudyFacts(f"A-{number:06d}", "2026-01-31", None)
            description = ("CT Abdomen", "MR Schädel nativ", "CT Thorax")[number % 3]
            association = f"association {number}"
            session.execute(
                insert(AssociationRow).values(
                    id=association, calling_ae="CT01", called_ae="RCMED", peer="127.0.0.1", opened_at=at, released_at=at
                )
            )
            session.execute(
                insert(StudyRow).values(
                    study_uid=study,
                    description=description,
                    first_received_at=at,
                    last_received_at=at,
                    generation=1,
                    is_open=number == studies - 1,
                    accession_number=told.accession_number,
                    study_date=told.study_date,
                    searched=searched_text(study, description, told),
                )
            )
            for series in (f"{study}.1", f"{study}.2"):
                _fill_series(session, study, series, instances // 2, association, at, state)


def _fill_series(session, study, series, instances, association, at, state) -> None:  # type: ignore[no-untyped-def]
    session.execute(insert(SeriesRow).values(study_uid=study, series_uid=series, modality="CT"))
    uids = [f"{series}.{number}" for number in range(instances)]
    common = {"study_uid": study, "series_uid": series, "sop_class_uid": "1.2", "transfer_syntax_uid": "1.2"}
    rows = [{**common, "instance_uid": uid, "path": uid, "received_at": at, "association": association} for uid in uids]
    session.execute(insert(InstanceRow), rows)
    if state is None:
        return
    job = f"job of {series}"
    session.execute(
        insert(JobRow).values(
            job_id=job,
            study_uid=study,
            series_uid=series,
            generation=1,
            route="abdomen CT",
            instances=uids,
            prompts=["liver"],
            destinations=["pacs"],
            state=state,
            created_at=at,
            finished_at=None if state == "queued" else at,
            submitted_at=at,
        )
    )
    if state != "queued":
        end = "failed" if state == "failed" else "delivered"
        told = {"attempts": 1, "delivered": [], "refused": [], "text": end, "updated_at": at}
        session.execute(insert(DeliveryRow).values(job_id=job, destination="pacs", state=end, **told))


def measure(where: Path | URL, name: str, studies: int, instances: int, times: int) -> None:
    """Fill, serve, ask, print a table."""
    database = Database(where)
    fill(database, studies, instances)
    if isinstance(where, URL):
        with database.writing() as session:
            session.execute(text("ANALYZE"))  # as its autovacuum does after a while
    shown = Shown(
        StudyIndex(database),
        StudyTimeline(database),
        JobLedger(database),
        JobControl(database),
        Path(tempfile.gettempdir()),
        (),
        lambda: {"index": "ok"},
        lambda: {},
        lambda: 0,
        lambda job: (),
        StudyListing(database),
        FindingMarks(database),
        lambda: {},
        WebSettings(),
    )
    server = WebServer(build_application([status_pages(shown)]), "127.0.0.1", 0)
    server.start()
    print(f"\n{name}, {studies} studies of {instances} instances\n")
    print("| page | median, ms | slowest, ms | kB |\n| --- | --- | --- | --- |")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", headers={"Accept": "text/html"}) as client:
            for what, address in _ADDRESSES.items():
                address = address.format(pages=-(-studies // 50))
                client.get(address).raise_for_status()
                took = []
                for _ in range(times):
                    begun = time.perf_counter()
                    answer = client.get(address)
                    took.append(1000 * (time.perf_counter() - begun))
                size = len(answer.content) / 1000
                print(f"| {what} | {statistics.median(took):.0f} | {max(took):.0f} | {size:.0f} |", flush=True)
    finally:
        server.stop()
        database.close()


def main() -> None:
    """Measure on each database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--instances", type=int, default=200, help="of each study")
    parser.add_argument("--times", type=int, default=20, help="each page is asked for")
    told = parser.parse_args()
    asked = (told.studies, told.instances, told.times)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder) / "index.sqlite", "SQLite", *asked)
    programs = server_programs()
    if programs is None:
        print("\nPostgreSQL is not installed: not measured")
        return
    with PostgresqlServer(programs) as server:
        measure(server.create_database("status_page"), "PostgreSQL", *asked)


if __name__ == "__main__":
    main()
