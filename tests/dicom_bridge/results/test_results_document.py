"""The report to read: what its pages say, read by another library, and the object that holds them."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pypdf import PdfReader

from dicom_bridge.results.documents.encapsulated_pdf import pages_of
from dicom_bridge.results.filing import file_results
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.kinds import ResultKind
from dicom_bridge.results.objects import build_objects
from dicom_bridge.series.images import read_series
from rcmed.findings import Finding, Findings, FindingStatus
from rcmed.image import Image
from rcmed.modality import Modality
from result_sources import MODEL

IDENTIFIERS = ResultIdentifiers.derive("job", datetime(2026, 3, 4, 5, 6, 7))


def volume(sources: Any, folder: Path, **changes: object) -> Image:
    image: Image = sources.volume(folder, shape=(5, 24, 20), StudyDescription="Abdomen & pelvis", **changes)
    return replace(image, warnings=("2 slices are missing",))


def answered(sources: Any, image: Image) -> Findings:
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[2, 4:14, 4:12] = True
    kidney = sources.target("left kidney", "64033007", 1)
    told: Findings = sources.findings(
        image,
        sources.found(mask, prompt="liver, please"),
        sources.found(mask, kidney, status=FindingStatus.UNCERTAIN, presence=0.5),
        sources.absent("spleen"),
        sources.unresolved(),
        Finding("prostate", sources.target("prostate", "41216001"), FindingStatus.IMPLAUSIBLE, 0.8, reason="<no> head"),
    )
    return told


def document_of(image: Image, findings: Findings) -> Dataset:
    objects = build_objects(image, findings, IDENTIFIERS, [ResultKind.PDF])
    assert objects.refusals == ()
    return objects.datasets["document.dcm"]


def text_of(document: Dataset) -> str:
    pages = PdfReader(io.BytesIO(pages_of(document))).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


def test_the_pages_say_who_what_was_found_what_was_not_and_by_whom(sources: Any, tmp_path: Path) -> None:
    image = volume(sources, tmp_path)
    text = text_of(document_of(image, answered(sources, image)))
    for told in (
        *("Test, Patient", "T1", "1970-01-01", "A1", "2024-01-02 11:25", "Abdomen & pelvis"),
        'liver (asked: "liver, please") found 0.97 volume 1.5 cm³',
        "left kidney uncertain 0.50",
        *("The liver is there.", "slice 3 of 5", "right edge is the patient's left, its lower edge the back."),
        "spleen: not found",
        "flux capacitor: not looked for: no target of this name",
        "prostate: not found, implausible: <no> head",
        *("2 slices are missing", "RCMed small 1.0.0", MODEL.weights_sha256, "2026-03-04 05:06:07", "page 1 of 2"),
    ):
        assert told in text, told
    assert text.count("RESEARCH USE ONLY") >= 3  # above, and on each page below


def test_each_region_is_shown_in_the_slice_where_it_is_largest(sources: Any, tmp_path: Path) -> None:
    image = volume(sources, tmp_path)
    findings = answered(sources, image)
    reader = PdfReader(io.BytesIO(pages_of(document_of(image, findings))))
    pictures = [np.asarray(picture.image.convert("RGB")) for page in reader.pages for picture in page.images]
    assert len(pictures) == 2
    colours = [finding.target.colour for finding in findings.findings[:2] if finding.target]
    for picture, colour in zip(pictures, colours, strict=True):
        # The outline of the region has its target's colour; the band of words is as high as that of a capture.
        assert (np.abs(picture.astype(int) - colour).max(axis=-1) < 24).sum() > 200


def test_the_object_says_what_it_is_and_is_the_same_when_made_again(sources: Any, tmp_path: Path) -> None:
    image = volume(sources, tmp_path)
    first, second = (document_of(image, answered(sources, image)) for _ in range(2))
    assert first == second and pages_of(first) == pages_of(second)
    assert first.SOPClassUID.name == "Encapsulated PDF Storage"
    assert (first.MIMETypeOfEncapsulatedDocument, first.VerificationFlag) == ("application/pdf", "UNVERIFIED")
    assert (first.BurnedInAnnotation, first.Modality, first.ConversionType) == ("YES", "DOC", "SYN")
    assert len(first.EncapsulatedDocument) % 2 == 0
    assert {item.ReferencedSOPInstanceUID for item in first.SourceInstanceSequence} == {
        source.sop_instance_uid for source in image.sources
    }
    pages = pages_of(first)
    assert pages.startswith(b"%PDF-") and pages.rstrip().endswith(b"%%EOF")
    information = PdfReader(io.BytesIO(pages)).metadata
    assert information is not None and information["/CreationDate"] == "D:20260304050607"


def test_the_fonts_are_in_the_file(sources: Any, tmp_path: Path) -> None:
    image = volume(sources, tmp_path)
    reader = PdfReader(io.BytesIO(pages_of(document_of(image, answered(sources, image)))))
    used = {font["/BaseFont"]: font for page in reader.pages for font in page["/Resources"]["/Font"].values()}
    assert len(used) == 2
    for font in used.values():
        assert "/FontFile2" in font["/FontDescriptor"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Παπαδόπουλος^Γιώργος", "Παπαδόπουλος, Γιώργος"),
        ("Чехов^Антон^Павлович", "Чехов, Антон Павлович"),
        ("Müller-Łoś^Éva^^Dr.^MD", "Müller-Łoś, Dr. Éva, MD"),
        ("Yamada^Tarou=山田^太郎", "Yamada, Tarou"),
        ("=山田^太郎", "??, ??"),
    ],
)
def test_names_of_many_scripts_are_shown(sources: Any, tmp_path: Path, name: str, shown: str) -> None:
    image = volume(sources, tmp_path, SpecificCharacterSet="ISO_IR 192", PatientName=name)
    assert shown in text_of(document_of(image, answered(sources, image)))


def test_where_nothing_was_asked_and_nothing_recognised_the_answer_stands_alone(sources: Any, tmp_path: Path) -> None:
    image = sources.planar(tmp_path)
    text = text_of(document_of(image, sources.findings(image)))
    assert "It is [SEG]." in text and "What was found" not in text and "Read as: x_ray" in text


def test_a_report_that_comes_back_is_not_looked_at(sources: Any, tmp_path: Path) -> None:
    image = volume(sources, tmp_path)
    filed = file_results(image, answered(sources, image), IDENTIFIERS, tmp_path / "out", [ResultKind.PDF])
    assert read_series(filed.files, Modality.CT).images == ()


def test_without_the_library_a_line_says_what_to_install(
    sources: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "font_roboto", None)
    monkeypatch.delitem(sys.modules, "dicom_bridge.results.documents.pages", raising=False)
    image = volume(sources, tmp_path)
    objects = build_objects(image, answered(sources, image), IDENTIFIERS, [ResultKind.SR, ResultKind.PDF])
    assert list(objects.datasets) == ["report.dcm"]
    (line,) = objects.refusals
    assert line.startswith("no PDF is written") and "pip install 'rcmed[gateway]'" in line
