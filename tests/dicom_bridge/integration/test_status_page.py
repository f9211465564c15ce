"""The status page in Chromium, on a desk, on a tablet and on a phone: a study's whole story, and what can be done."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_bridge.delivery.dimse.sending import send_files
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.settings import GatewaySettings
from dicom_bridge.store.states import JobState
from rcmed.findings import Findings
from rcmed.image import Image

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

PATIENCE = 60.0
SIZES = ((1440, 900), (768, 1024), (1024, 768), (390, 844))


class Moody:
    """Finds, fails or waits, as the series' place in the order of asking says."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder
        self.identity = finder.identity
        self.fails = False
        self.go = threading.Event()
        self.go.set()

    def find(self, image: Image, prompts: Any) -> Findings:
        assert self.go.wait(PATIENCE)
        if self.fails:
            raise ValueError("the weights are of lead")
        found: Findings = self._finder.find(image, prompts)
        return found


class Ward:
    """A gateway with a sound destination and one that is down, and studies that come to it."""

    def __init__(
        self,
        root: Path,
        assistant: Moody,
        make_ct_series: Any,
        dead_port: int,
        completion: dict[str, Any],
        web: dict[str, Any],
    ) -> None:
        self.assistant = assistant
        self._make = make_ct_series
        content = {
            "state_folder": str(root),
            "receive": {"port": 0, "minimum_free_megabytes": 0},
            "completion": completion,
            "jobs": {"polling_seconds": 0.05},
            "delivery": {"maximum_attempts": 3, "first_wait_seconds": 0.1, "maximum_wait_seconds": 0.1},
            "web": {"port": 0, "refresh_seconds": 0, **web},
            "routing": {
                "routes": [
                    {
                        "name": "abdomen CT",
                        "conditions": [{"field": "modality", "value": "CT"}, {"field": "calling_ae", "value": "CT01"}],
                        "prompts": ["liver", "spleen", "wibble"],
                        "destinations": ["results"],
                    },
                    {
                        "name": "second reader",
                        "conditions": [{"field": "calling_ae", "value": "CT02"}],
                        "prompts": ["liver"],
                        "destinations": ["results", "pacs"],
                        "priority": "stat",
                    },
                ],
                "destinations": {
                    "results": {"type": "folder", "path": "results"},
                    "pacs": {"type": "c_store", "host": "127.0.0.1", "port": dead_port, "called_ae": "PACS"},
                },
            },
        }
        self.gateway = Gateway(GatewaySettings.model_validate(content), assistant)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.gateway.ports.web}"

    def send(self, calling_ae: str = "CT01", **attributes: str) -> str:
        files = self._make(3)
        for file in files if attributes else ():
            dataset = pydicom.dcmread(file)
            dataset.SpecificCharacterSet = "ISO_IR 192"
            for name, value in attributes.items():
                setattr(dataset, name, value)
            dataset.save_as(file)
        send_files(files, "127.0.0.1", self.gateway.ports.dicom, "RCMED", calling_ae)
        return str(pydicom.dcmread(files[0]).StudyInstanceUID)

    def wait_for(self, study: str, state: JobState) -> None:
        def is_so() -> bool:
            jobs = self.gateway.ledger.jobs(study)
            return bool(jobs) and jobs[0].state == state

        assert self.gateway._wait(is_so, PATIENCE)


# Playwright runs an event loop in the test's thread, in which the job engine does not start: the gateway comes first.
@pytest.fixture
def ward(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    threshold_assistant: Any,
    make_ct_series: Any,
    free_port: Callable[[], int],
) -> Iterator[Ward]:
    completion = dict(getattr(request, "param", {"quiet_seconds": 5, "released_seconds": 0.1}))
    web = completion.pop("web", {})
    started = Ward(tmp_path / "state", Moody(threshold_assistant), make_ct_series, free_port(), completion, web)
    with started.gateway:
        yield started
        started.assistant.go.set()


@pytest.fixture
def page(tool: Callable[[str, str], str]) -> Iterator[Any]:
    """A page of a headless Chromium that fails the test on errors of scripts and of the console."""
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium", "chromium"), args=["--no-sandbox"])
        opened = browser.new_page()
        opened.set_default_timeout(PATIENCE * 1000)
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        yield opened
        browser.close()
    assert wrong == []


def take_pictures(page: Any, name: str) -> None:
    """Look at the page at every size: nothing may need scrolling sideways. RCMED_PICTURES names a folder for them."""
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function("() => Array.from(document.images).every(image => image.complete)")
        wide = page.evaluate(
            """() => Array.from(document.querySelectorAll('body *'))
              .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
              .map(one => one.outerHTML.slice(0, 80))"""
        )
        assert wide == [], f"{name} at {width}x{height}"
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert page.evaluate("Array.from(document.images).every(image => image.naturalWidth > 0)")
        folder = os.environ.get("RCMED_PICTURES")
        if folder:
            page.screenshot(path=f"{folder}/{name}-{width}x{height}.png", full_page=True)


def press(page: Any, button: Any) -> None:
    """Press a button; afterwards the same page is there again."""
    address = page.url
    with page.expect_navigation(url=address):
        button.click()


def test_the_story_of_studies_fits_every_screen_and_its_buttons_work(ward: Ward, page: Any) -> None:
    ledger = ward.gateway.ledger
    done = ward.send()
    ward.wait_for(done, JobState.DONE)
    ward.assistant.fails = True
    failed = ward.send()
    ward.wait_for(failed, JobState.FAILED)
    ward.assistant.fails = False
    undelivered = ward.send("CT02")
    ward.wait_for(undelivered, JobState.FAILED)
    unrouted = ward.send("MR07")
    assert ward.gateway._wait(lambda: bool(ward.gateway.story.generations(unrouted)), PATIENCE)
    ward.assistant.go.clear()
    running = ward.send()
    ward.wait_for(running, JobState.RUNNING)
    queued = ward.send("CT02")
    ward.wait_for(queued, JobState.QUEUED)

    page.goto(ward.address)
    told = page.inner_text("body")
    for part in ("1 running", "1 queued", "2 failed", "1 done", "suspended", "CT01", "CT02", "pacs", "0 now", "stat"):
        assert part in told
    take_pictures(page, "overview")

    page.goto(f"{ward.address}/studies/{done}")
    told = page.inner_text("body")
    for part in (
        "3 new instances in 1 series from CT01 (127.0.0.1",
        "generation 1 complete",
        "the last association was released 0.1 s before",
        "abdomen CT: done",
        "find",
        "An answer.",
        "spleen absent",
        "no such target",
        "2 objects; confirmed by written and synced",
    ):
        assert part in told, part
    assert page.locator("img").count() == 2
    page.get_by_text("Routes as configured now").click()
    assert "calling_ae equals 'CT02': calling_ae is 'CT01', no match" in page.inner_text("body")
    take_pictures(page, "study-done")

    for name, study, part in (
        ("study-failed", failed, "the weights are of lead"),
        ("study-undelivered", undelivered, "does not answer"),
        ("study-unrouted", unrouted, "no route matches"),
        ("study-running", running, "running"),
    ):
        page.goto(f"{ward.address}/studies/{study}")
        assert part in page.inner_text("body")
        take_pictures(page, name)

    # cancel, from the queue
    page.goto(ward.address)
    press(page, page.locator("tr", has_text="second reader").get_by_role("button", name="Cancel"))
    assert ledger.jobs(queued)[0].state == JobState.CANCELLED
    ward.assistant.go.set()
    ward.wait_for(running, JobState.DONE)

    # what failed: one by one, and all of a reason
    page.goto(f"{ward.address}/failed")
    take_pictures(page, "failed")
    press(page, page.locator("tr", has_text="the weights are of lead").get_by_role("button", name="Retry", exact=True))
    ward.wait_for(failed, JobState.DONE)
    page.goto(f"{ward.address}/failed")
    before = ledger.deliveries(ledger.jobs(undelivered)[0].job_id)
    press(page, page.locator("tr", has_text="does not answer").get_by_role("button", name="Deliver it again"))
    ward.wait_for(undelivered, JobState.FAILED)  # it is still down
    drives = {row.destination: row.drive for row in ledger.deliveries(ledger.jobs(undelivered)[0].job_id)}
    assert drives == {"results": 1, "pacs": 2} and {row.drive for row in before} == {1}

    # retry, from the study
    page.goto(f"{ward.address}/studies/{queued}")
    press(page, page.get_by_role("button", name="Retry", exact=True))
    ward.wait_for(queued, JobState.FAILED)
    assert "run 2" in page.inner_text("body")


@pytest.mark.parametrize("ward", [{"quiet_seconds": 3600, "released_seconds": None}], indirect=True)
def test_a_study_is_said_to_be_complete_by_a_button(ward: Ward, page: Any) -> None:
    study = ward.send()
    page.goto(f"{ward.address}/studies/{study}")
    take_pictures(page, "study-open")
    page.get_by_label("expected number of instances").fill("4")
    page.get_by_role("button", name="Complete").click()
    page.get_by_text("3 of 4 expected instances").wait_for()
    press(page, page.get_by_role("button", name="Complete"))
    ward.wait_for(study, JobState.DONE)


@pytest.mark.parametrize(
    "ward",
    [
        {
            "quiet_seconds": 5,
            "released_seconds": 0.1,
            "web": {"viewer_url": "http://127.0.0.1:9/viewer?StudyInstanceUIDs={study}", "patient_names": True},
        }
    ],
    indirect=True,
)
def test_studies_are_looked_for_and_their_findings_marked(ward: Ward, page: Any) -> None:
    answered = ward.send(AccessionNumber="A-4711", StudyDescription="CT Abdomen", PatientName="Doe^Jane")
    ward.wait_for(answered, JobState.DONE)
    unrouted = ward.send("MR07", AccessionNumber="A-0815", StudyDescription="MR Schädel", PatientName="Roe^Richard")
    assert ward.gateway._wait(lambda: bool(ward.gateway.story.generations(unrouted)), PATIENCE)

    # the counts are links, the search is in the address
    page.goto(ward.address)
    page.get_by_role("link", name="1 answered").click()
    page.wait_for_url("**/studies?state=answered")
    assert "A-4711" in page.inner_text("body") and "A-0815" not in page.inner_text("body")
    page.get_by_role("link", name="Show all").click()
    page.get_by_text("1 to 2 of 2").wait_for()
    told = page.inner_text("body")
    assert "received, nothing asked" in told and "Doe, Jane" in told
    take_pictures(page, "studies")
    page.get_by_label("accession number, description").fill("roe schädel")
    page.get_by_role("button", name="Search").click()
    page.get_by_text("1 to 1 of 1").wait_for()
    assert "A-0815" in page.inner_text("body") and "A-4711" not in page.inner_text("body")
    assert page.get_by_label("accession number, description").input_value() == "roe schädel"
    for wanted, total in (("state=failed", "none"), ("q=no+such", "none"), ("jobs=done", "1 to 1 of 1")):
        page.goto(f"{ward.address}/studies?{wanted}")
        assert total in page.inner_text("body"), wanted

    # a finding is right, then wrong, then nothing was said
    page.goto(f"{ward.address}/studies/{answered}")
    link = page.get_by_role("link", name="Open in the viewer")
    assert link.get_attribute("href") == f"http://127.0.0.1:9/viewer?StudyInstanceUIDs={answered}"
    liver = page.locator(".finding", has_text="A square.")
    assert page.get_by_role("button", name="Right", exact=True).count() == 2, "liver and spleen, not what is no target"
    for button, mark in (("Right", "right"), ("Wrong", "wrong")):
        liver.get_by_role("button", name=button, exact=True).click()
        liver.get_by_text(f"marked {mark}").wait_for()
    metrics = page.request.get(f"{ward.address}/metrics").text()
    assert 'rcmed_marked_findings{mark="wrong",status="found",target="liver"} 1.0' in metrics
    take_pictures(page, "study-marked")
    liver.get_by_role("button", name="Wrong", exact=True).click()
    liver.get_by_text("marked").wait_for(state="detached")
    assert 'target="liver"' not in page.request.get(f"{ward.address}/metrics").text()


@pytest.mark.parametrize(
    "ward", [{"quiet_seconds": 5, "released_seconds": 0.1, "web": {"refresh_seconds": 0.5}}], indirect=True
)
def test_a_page_shows_itself_anew_but_disturbs_nobody(ward: Ward, page: Any) -> None:
    page.goto(ward.address)
    page.get_by_text("nothing was received yet").wait_for()
    first = ward.send(AccessionNumber="A-1")
    page.get_by_text("A-1", exact=True).first.wait_for()  # nobody asked
    ward.wait_for(first, JobState.DONE)
    search = page.get_by_label("accession number, description")
    search.fill("A-2")
    second = ward.send(AccessionNumber="A-2")
    ward.wait_for(second, JobState.DONE)
    page.wait_for_timeout(1500)  # three times as long as it would take: there is no event of what must not happen
    assert search.input_value() == "A-2" and page.get_by_text("A-2", exact=True).count() == 0
    search.fill("")
    search.blur()
    page.get_by_text("A-2", exact=True).first.wait_for()
