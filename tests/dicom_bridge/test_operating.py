"""What operators do: cancel, retry, drive again, say that a study is complete; by REST, as the page's buttons do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest

from dicom_bridge.delivery.dimse.sending import send_files
from dicom_bridge.events.audit import verify
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.settings import GatewaySettings
from dicom_bridge.store.states import DeliveryState, JobState
from rcmed.findings import Findings
from rcmed.image import Image

PATIENCE = 60.0


class HeldAssistant:
    """Finds as another one does, but waits before, and fails as long as it is told to."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder
        self.identity = finder.identity
        self.go = threading.Event()
        self.go.set()
        self.fails = False
        self.asked: list[str | None] = []

    def find(self, image: Image, prompts: Any) -> Findings:
        self.asked.append(image.series_instance_uid)
        assert self.go.wait(PATIENCE)
        if self.fails:
            raise ValueError("the weights are of lead")
        found: Findings = self._finder.find(image, prompts)
        return found


class Running:
    """A gateway with a fragile destination, what it is asked over HTTP, and what is sent to it."""

    def __init__(self, gateway: Gateway, assistant: HeldAssistant, make_ct_series: Any) -> None:
        self.gateway = gateway
        self.assistant = assistant
        self._make = make_ct_series
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{gateway.ports.web}", timeout=PATIENCE)

    def send(self, **attributes: Any) -> str:
        """A new study of two slices; returns its UID."""
        files = self._make(2)
        for file in files:
            dataset = pydicom.dcmread(file)
            for name, value in attributes.items():
                setattr(dataset, name, value)
            dataset.save_as(file)
        self.send_files(files)
        return str(pydicom.dcmread(files[0]).StudyInstanceUID)

    def send_files(self, files: list[Path]) -> None:
        send_files(files, "127.0.0.1", self.gateway.ports.dicom, "RCMED", "CT01")

    def job(self, study: str) -> Any:
        (job,) = self.gateway.ledger.jobs(study)
        return job

    def wait(self, condition: Callable[[], bool]) -> None:
        assert self.gateway._wait(condition, PATIENCE)

    def wait_for(self, study: str, state: JobState) -> Any:
        def is_so() -> bool:
            jobs = self.gateway.ledger.jobs(study)
            return bool(jobs) and jobs[0].state == state

        self.wait(is_so)
        return self.job(study)

    def post(self, path: str, status: int = 200, **form: Any) -> Any:
        answer = self.client.post(path, data=form)
        assert answer.status_code == status, answer.text
        return answer.json()

    def results(self, study: str) -> dict[str, str]:
        """Modality -> SOP Instance UID of what lies at the destination."""
        files = (self.gateway.root / "results" / study).glob("*.dcm")
        return {one.Modality: one.SOPInstanceUID for one in map(pydicom.dcmread, files)}

    def break_destination(self) -> None:
        """A file where its folder should be."""
        (self.gateway.root / "results").write_text("in the way")

    def mend_destination(self) -> None:
        (self.gateway.root / "results").unlink()

    def audited(self) -> list[tuple[str, str | None]]:
        trail = self.gateway.root / "audit.jsonl"
        verify(trail)
        records = map(json.loads, trail.read_text().splitlines())
        return [(one["action"], one.get("destination")) for one in records if one["event"]["code"] == "110100"]


def configured(root: Path, **completion: Any) -> GatewaySettings:
    return GatewaySettings.model_validate(
        {
            "state_folder": str(root),
            "receive": {"port": 0, "minimum_free_megabytes": 0},
            "completion": {"quiet_seconds": 5, "released_seconds": 0.1, **completion},
            "jobs": {"polling_seconds": 0.05},
            "delivery": {"maximum_attempts": 2, "first_wait_seconds": 0.1, "maximum_wait_seconds": 0.1},
            "web": {"port": 0},
            "routing": {
                "routes": [{"name": "ct", "prompts": ["liver"], "destinations": ["results"]}],
                "destinations": {"results": {"type": "folder", "path": "results"}},
            },
        }
    )


@pytest.fixture
def running(tmp_path: Path, threshold_assistant: Any, make_ct_series: Any) -> Iterator[Running]:
    assistant = HeldAssistant(threshold_assistant)
    with Gateway(configured(tmp_path / "state"), assistant) as gateway:
        started = Running(gateway, assistant, make_ct_series)
        yield started
        assistant.go.set()
        started.client.close()


@pytest.mark.slow
def test_a_failed_job_is_a_dead_letter_and_is_retried_with_the_same_uids(running: Running) -> None:
    running.assistant.fails = True
    study = running.send()
    job = running.wait_for(study, JobState.FAILED)
    (letter,) = running.client.get("/dead-letters").json()
    assert (letter["job_id"], letter["destination"]) == (job.job_id, None)
    assert "the weights are of lead" in letter["reason"]
    running.gateway.ledger.set_state(job.job_id, JobState.QUEUED)
    assert running.job(study).state == JobState.FAILED, "a final state is left by a re-drive alone"
    running.assistant.fails = False
    running.post(f"/jobs/{job.job_id}/retry")
    done = running.wait_for(study, JobState.DONE)
    assert (done.job_id, done.drive, done.error) == (job.job_id, 2, None)
    assert set(running.results(study)) == {"SEG", "SR"}
    assert running.client.get("/dead-letters").json() == []
    running.post(f"/jobs/{job.job_id}/retry", status=409)
    running.post("/jobs/nothing/retry", status=404)
    assert running.audited() == [("retry", None)]
    told = running.client.get(f"/jobs/{job.job_id}").json()
    assert [step["name"] for step in told["steps"]] == ["read", "find", "results", "hand over"]


@pytest.mark.slow
def test_what_was_given_up_is_driven_again_one_by_one_and_all_of_a_reason(running: Running) -> None:
    running.break_destination()
    studies = [running.send() for _ in range(3)]
    jobs = [running.wait_for(study, JobState.FAILED) for study in studies]
    letters = running.client.get("/dead-letters").json()
    assert {letter["study_uid"] for letter in letters} == set(studies)
    assert {(letter["destination"], letter["state"]) for letter in letters} == {("results", "failed")}
    asked = len(running.assistant.asked)
    built = {
        job.job_id: {
            pydicom.dcmread(file).SOPInstanceUID for file in (running.gateway.root / "jobs" / job.job_id).glob("*.dcm")
        }
        for job in jobs
    }
    running.mend_destination()
    running.post(f"/jobs/{jobs[0].job_id}/deliveries/results/redrive")
    running.wait_for(studies[0], JobState.DONE)
    assert {letter["study_uid"] for letter in running.client.get("/dead-letters").json()} == set(studies[1:])
    assert running.post("/dead-letters/redrive", destination="elsewhere") == {"status": "ok", "redriven": 0}
    assert running.post("/dead-letters/redrive", jobs="true") == {"status": "ok", "redriven": 0}
    reason = letters[0]["reason"]
    assert running.post("/dead-letters/redrive", destination="results", reason=reason)["redriven"] == 2
    for study, job in zip(studies, jobs, strict=True):
        assert running.wait_for(study, JobState.DONE).error is None
        assert set(running.results(study).values()) == built[job.job_id]
        (delivery,) = running.gateway.ledger.deliveries(job.job_id)
        assert (delivery.state, delivery.drive, delivery.attempts) == (DeliveryState.DELIVERED, 2, 1)
    assert len(running.assistant.asked) == asked, "nothing was looked for again"
    running.post(f"/jobs/{jobs[0].job_id}/deliveries/results/redrive", status=409)
    assert running.audited() == [("re-drive", "results")] * 3


@pytest.mark.slow
def test_a_re_drive_survives_a_crash_before_the_engine_has_it(
    tmp_path: Path, threshold_assistant: Any, make_ct_series: Any
) -> None:
    assistant = HeldAssistant(threshold_assistant)
    with Gateway(configured(tmp_path / "state"), assistant) as gateway:
        first = Running(gateway, assistant, make_ct_series)
        assistant.fails = True
        failing = first.send()
        first.wait_for(failing, JobState.FAILED)
        assistant.fails = False
        first.break_destination()
        given_up = first.send()
        first.wait_for(given_up, JobState.FAILED)
        first.mend_destination()
        gateway._control.redrive_job(first.job(failing).job_id)
        gateway._control.redrive_deliveries(first.job(given_up).job_id)
    with Gateway(configured(tmp_path / "state"), assistant) as gateway:
        again = Running(gateway, assistant, make_ct_series)
        for study in (failing, given_up):
            again.wait_for(study, JobState.DONE)
            assert set(again.results(study)) == {"SEG", "SR"}


@pytest.mark.slow
def test_queued_and_running_jobs_are_cancelled_and_can_be_retried(running: Running) -> None:
    running.assistant.go.clear()
    at_work = running.send()
    running.wait(lambda: len(running.assistant.asked) == 1)
    queued = running.send()
    running.wait_for(queued, JobState.QUEUED)
    for study in (at_work, queued):
        running.post(f"/jobs/{running.job(study).job_id}/cancel")
        assert running.job(study).state == JobState.CANCELLED
        running.post(f"/jobs/{running.job(study).job_id}/cancel", status=409)
    running.assistant.go.set()
    third = running.send()
    running.wait_for(third, JobState.DONE)
    assert len(running.assistant.asked) == 2, "the queued one was never looked at"
    assert [running.job(study).state for study in (at_work, queued)] == [JobState.CANCELLED] * 2
    assert not running.results(at_work) and not running.results(queued)
    assert running.client.get("/dead-letters").json() == []
    for study in (at_work, queued):
        running.post(f"/jobs/{running.job(study).job_id}/retry")
        running.wait_for(study, JobState.DONE)
        assert set(running.results(study)) == {"SEG", "SR"}
    assert running.audited() == [("cancel", None)] * 2 + [("retry", None)] * 2


@pytest.mark.slow
def test_a_waiting_delivery_is_cancelled_with_its_job(
    tmp_path: Path, threshold_assistant: Any, make_ct_series: Any
) -> None:
    settings = configured(tmp_path / "state")
    patient = settings.delivery.model_copy(update={"first_wait_seconds": 3000.0, "maximum_wait_seconds": 3000.0})
    with Gateway(settings.model_copy(update={"delivery": patient}), HeldAssistant(threshold_assistant)) as gateway:
        running = Running(gateway, HeldAssistant(threshold_assistant), make_ct_series)
        running.break_destination()
        waiting, behind = running.send(), running.send()

        def states() -> set[str]:
            jobs = [job for study in (waiting, behind) for job in gateway.ledger.jobs(study)]
            return {row.state for job in jobs for row in gateway.ledger.deliveries(job.job_id)}

        running.wait(lambda: states() == {"waiting", "pending"})
        first = next(
            study
            for study in (waiting, behind)
            if gateway.ledger.deliveries(running.job(study).job_id)[0].state == DeliveryState.WAITING
        )
        running.mend_destination()
        running.post(f"/jobs/{running.job(first).job_id}/cancel")
        assert running.job(first).state == JobState.CANCELLED
        other = behind if first == waiting else waiting
        running.wait_for(other, JobState.DONE)  # it waited behind the one that waited for 50 minutes
        assert not running.results(first) and set(running.results(other)) == {"SEG", "SR"}


@pytest.mark.slow
def test_the_most_urgent_job_is_taken_first(running: Running) -> None:
    running.assistant.go.clear()
    busy = running.send()
    running.wait(lambda: len(running.assistant.asked) == 1)
    studies = {}
    for told in ("LOW", "", "STAT", "HIGH"):
        studies[told] = running.send(RequestedProcedurePriority=told) if told else running.send()
        running.wait_for(studies[told], JobState.QUEUED)
    page = running.client.get("/", headers={"Accept": "text/html"}).text
    places = [page.index(f"/studies/{studies[told]}") for told in ("STAT", "HIGH", "", "LOW")]
    assert places == sorted(places), "the queue on the page is in the order of the taking"
    running.assistant.go.set()
    for study in (busy, *studies.values()):
        running.wait_for(study, JobState.DONE)
    series = {told: running.job(study).series_uid for told, study in studies.items()}
    assert running.assistant.asked[1:] == [series[told] for told in ("STAT", "HIGH", "", "LOW")]


@pytest.mark.slow
def test_no_other_page_presses_the_buttons(running: Running) -> None:
    running.assistant.fails = True
    study = running.send()
    job = running.wait_for(study, JobState.FAILED)
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert running.client.post(f"/jobs/{job.job_id}/retry", headers=headers).status_code == 403
    assert running.job(study).state == JobState.FAILED
    assert running.audited() == []
    assert running.client.get(f"/jobs/{job.job_id}/retry").status_code == 404, "a link changes nothing"


@pytest.mark.slow
def test_a_study_is_said_to_be_complete(tmp_path: Path, threshold_assistant: Any, make_ct_series: Any) -> None:
    settings = configured(tmp_path / "state", quiet_seconds=3600, released_seconds=None)
    assistant = HeldAssistant(threshold_assistant)
    with Gateway(settings, assistant) as gateway:
        running = Running(gateway, assistant, make_ct_series)
        study = running.send()
        assert gateway.index.study(study).is_open
        assert "not complete yet" in running.client.get(f"/studies/{study}").text
        running.post(f"/studies/{study}/complete")
        running.wait_for(study, JobState.DONE)
        (generation,) = gateway.story.generations(study)
        assert (generation.instances, generation.rule) == (2, "it was said to be complete")
        running.post(f"/studies/{study}/complete", status=409)
        running.post("/studies/1.2.3/complete", status=404)
        running.post(f"/studies/{study}/complete", status=422, expected="many")
        told = running.send(NumberOfStudyRelatedInstances=2)
        running.wait_for(told, JobState.DONE)
        assert gateway.story.generations(told)[0].rule == "all 2 expected instances came"
        partial = running.send(NumberOfStudyRelatedInstances=3)
        running.post(f"/studies/{partial}/complete", expected="4")
        assert "2 of 4 expected" in running.client.get(f"/studies/{partial}").text
        running.post(f"/studies/{partial}/complete", expected="2")
        running.wait_for(partial, JobState.DONE)
        assert [action for action, _ in running.audited()] == ["complete"] * 3


@pytest.mark.slow
def test_a_finding_is_marked_right_or_wrong(running: Running) -> None:
    study = running.send()
    job = running.wait_for(study, JobState.DONE)
    place = f"/jobs/{job.job_id}/mark"
    counted = 'rcmed_marked_findings{mark="%s",status="found",target="liver"} 1.0'
    for mark in ("right", "wrong"):
        running.post(place, finding="1", mark=mark)
        assert counted % mark in running.client.get("/metrics").text
    assert counted % "right" not in running.client.get("/metrics").text, "the last word counts"
    assert "marked wrong" in running.client.get(f"/studies/{study}").text
    running.post(place, finding="1", mark="none")
    assert "rcmed_marked_findings{" not in running.client.get("/metrics").text
    for status, form in (
        (409, {"finding": "2", "mark": "right"}),
        (409, {"finding": "1", "image": "2", "mark": "right"}),
        (422, {"finding": "0", "mark": "right"}),
        (422, {"finding": "1", "mark": "perhaps"}),
        (422, {"finding": "1"}),
    ):
        running.post(place, status=status, **form)
    running.post("/jobs/none/mark", status=404, finding="1", mark="right")
    form = {"finding": "1", "mark": "right"}
    assert running.client.post(place, data=form, headers={"Origin": "https://evil.example"}).status_code == 403
    trail = running.gateway.root / "audit.jsonl"
    verify(trail)
    said = [one for one in map(json.loads, trail.read_text().splitlines()) if one.get("action") == "mark"]
    assert [(one["mark"], one["target"], one["status"], one["study"]) for one in said] == [
        (mark, "liver", "found", study) for mark in ("right", "wrong", "none")
    ]


@pytest.mark.slow
def test_names_of_patients_are_kept_only_where_they_may_be(
    tmp_path: Path, threshold_assistant: Any, make_ct_series: Any
) -> None:
    settings = configured(tmp_path / "state")
    study = ""
    for allowed in (True, False):
        web = settings.web.model_copy(update={"patient_names": allowed})
        with Gateway(settings.model_copy(update={"web": web}), HeldAssistant(threshold_assistant)) as gateway:
            running = Running(gateway, gateway._assistant, make_ct_series)
            study = study or running.send(PatientName="Doe^Jane", AccessionNumber="A-1")
            running.wait_for(study, JobState.DONE)
            for path in ("/", "/studies", f"/studies/{study}"):
                page = running.client.get(path).text
                assert ("Doe, Jane" in page) is allowed and "Doe^Jane" not in page and "A-1" in page
            assert ("1 to 1 of 1" in running.client.get("/studies?q=jane").text) is allowed
            if not allowed:
                other = running.send(PatientName="Doe^Jane")
                running.wait_for(other, JobState.DONE)
                assert "Doe" not in running.client.get("/studies").text
            running.client.close()


@pytest.mark.slow
def test_a_resend_is_seen_and_asks_nothing(running: Running, caplog: Any, make_ct_series: Any) -> None:
    files = make_ct_series(3)
    running.send_files(files)
    first = pydicom.dcmread(files[0])
    study = str(first.StudyInstanceUID)
    done = running.wait_for(study, JobState.DONE)
    first.SeriesDescription = "other"
    first.save_as(files[0])
    caplog.set_level("INFO")
    running.send_files(files)
    told = "3 instances came again from CT01, 1 of them with other content: the first are kept, nothing is asked anew"

    def lines() -> list[tuple[str, str]]:
        return [(line.text, line.level) for line in running.gateway.index.lines(study)]

    running.wait(lambda: (told, "info") in lines())
    assert any(told in record.getMessage() for record in caplog.records)
    running.wait(lambda: all(one.released_at is not None for one in running.gateway.story.brought(study)))
    assert [(one.instances, one.again) for one in running.gateway.story.brought(study)] == [(3, 0), (0, 3)]
    for path, seen in (
        ("/", "3 again"),
        ("/studies", "3 again"),
        (f"/studies/{study}", "3 instances again from <b>CT01</b>"),
    ):
        assert seen in running.client.get(path).text
    assert running.job(study).job_id == done.job_id


@pytest.mark.slow
def test_an_address_of_the_list_that_asks_for_nonsense_is_told_so(running: Running) -> None:
    for query in ("state=fine", "from=yesterday", "to=0000-00-00", "page=0", "page=x", "delivery=lost", "jobs=odd"):
        answer = running.client.get(f"/studies?{query}")
        assert answer.status_code == 422 and query.partition("=")[0] in answer.json()["detail"]
    for query in (
        "",
        "q=%00",
        "from=&to=&state=&q=",
        "page=999",
        "association=%00&destination=%00",
        "to=9999-12-30",
        "from=1970-01-02",
    ):
        assert running.client.get(f"/studies?{query}").status_code == 200, query
    assert running.client.get("/failed?destination=%00").status_code == 200
