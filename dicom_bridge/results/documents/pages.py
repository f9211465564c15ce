"""The pages of a report to read, as PDF: who, what was asked, what was found with pictures, what was not, by whom."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from xml.sax.saxutils import escape

import font_roboto
import numpy as np
from PIL import Image as PillowImage
from reportlab import rl_config
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle
from reportlab.platypus import Image as Picture

from dicom_bridge.results.codes import model_name, tracking_id
from dicom_bridge.results.documents.wording import (
    NOTHING_RECOGNISED,
    WARNING,
    asked,
    in_words,
    outcome,
    shown_date,
    shown_name,
    shown_time,
)
from dicom_bridge.results.pictures.capture import picture_orientation
from dicom_bridge.results.pictures.picture import captioned_overlay
from dicom_bridge.results.provenance import RESEARCH
from dicom_bridge.results.segmentations.segments import segmented_findings
from dicom_bridge.results.sources.source import Source
from rcmed.evaluation.overlays import best_slice
from rcmed.findings import Finding, Findings, FindingStatus
from rcmed.image import Image
from rcmed.measurements import written

rl_config.useA85 = 0  # streams as bytes: as text they take a quarter more
_REGULAR, _BOLD = "Roboto", "Roboto-Bold"
_MARGIN = 18 * mm
_PADDING = 6  # of a platypus frame, in points
_WIDTH = A4[0] - 2 * _MARGIN - 2 * _PADDING
_PICTURE_WIDTH, _PICTURE_HEIGHT = 74 * mm, 86 * mm
_LONGEST_SIDE = 1024
_GREY, _LIGHT, _RED = colors.HexColor("#555555"), colors.HexColor("#dddddd"), colors.HexColor("#a00000")
_BODY = ParagraphStyle("body", fontName=_REGULAR, fontSize=9, leading=12)
_NOTE = ParagraphStyle("note", parent=_BODY, fontSize=8, leading=10.5, textColor=_GREY)
_TITLE = ParagraphStyle("title", parent=_BODY, fontName=_BOLD, fontSize=16, leading=20)
_HEADING = ParagraphStyle(
    "heading", parent=_BODY, fontName=_BOLD, fontSize=11, leading=14, spaceBefore=10, spaceAfter=4
)
_WARN = ParagraphStyle(
    "warning", parent=_BODY, fontName=_BOLD, textColor=_RED, borderColor=_RED, borderWidth=0.8, borderPadding=4,
    spaceBefore=6, spaceAfter=10,
)  # fmt: skip
# A table names a font for cells of text even where there are none: Helvetica, which would not be in the file.
_FONT = ("FONTNAME", (0, 0), (-1, -1), _REGULAR)
_LINES = TableStyle(
    [
        _FONT,
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, _LIGHT),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 4),
    ]
)
_SIDE_BY_SIDE = TableStyle([_FONT, ("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)])
_SIDES = {"L": "left", "R": "right", "A": "front", "P": "back", "H": "head", "F": "feet"}


def report_pages(findings: Findings, image: Image, source: Source, created: datetime) -> bytes:
    """Draw the report of one image.

    Args:
        findings: of the image.
        image: with the pixels that the pictures show.
        source: its header names patient and study.
        created: when it was made; the same arguments give the same bytes.
    Returns:
        a PDF in A4, its fonts embedded. Characters that the font lacks are shown as "?".
    """
    _register_fonts()
    content: list[Flowable] = [
        Paragraph("Report of findings", _TITLE),
        Paragraph(_fit(WARNING), _WARN),
        _identification(image, source),
        *_answers(findings),
        *_pictures(findings, image, source),
        *_not_found(findings),
        *_list("Notes on the images", image.warnings),
        *_making(findings, image, created),
    ]
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=22 * mm,
        title="RCMed report of findings",
        author="RCMed",
        subject=RESEARCH,
        creator=model_name(findings.model),
        lang="en",
        invariant=1,
    )
    document.build(content, canvasmaker=_canvas_maker(_footer(findings, source), created))
    return buffer.getvalue()


def _canvas_maker(footer: Sequence[str], created: datetime) -> type[Canvas]:
    """A canvas that writes a footer with the number of all pages, which is known at the end only."""

    class _Numbered(Canvas):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **{**named, "initialFontName": _REGULAR})
            self.setDateFormatter(lambda *clock: f"D:{created:%Y%m%d%H%M%S}")
            self._pages: list[dict[str, object]] = []

        def showPage(self) -> None:  # noqa: N802 (ReportLab's name)
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, page in enumerate(self._pages, start=1):
                self.__dict__.update(page)
                _draw_footer(self, footer, f"page {number} of {len(self._pages)}")
                super().showPage()
            super().save()

    return _Numbered


def _draw_footer(canvas: Canvas, lines: Sequence[str], page: str) -> None:
    canvas.setStrokeColor(_LIGHT)
    left, right = _MARGIN + _PADDING, A4[0] - _MARGIN - _PADDING
    canvas.line(left, 19 * mm, right, 19 * mm)
    canvas.setFillColor(_GREY)
    canvas.setFont(_REGULAR, 7)
    for number, line in enumerate(lines):
        canvas.drawString(left, (15.5 - 3.3 * number) * mm, line)
    canvas.drawRightString(right, 15.5 * mm, page)


def _footer(findings: Findings, source: Source) -> list[str]:
    header = source.headers[0]
    whose = [shown_name(header) or "no name", f"ID {header.get('PatientID') or 'none'}"]
    if header.get("AccessionNumber"):
        whose.append(f"accession number {header.AccessionNumber}")
    model = findings.model
    by = f"{RESEARCH}. {model_name(model)} {model.version}, weights {model.weights_sha256}"
    return [_printable(", ".join(whose))[:110], _printable(by)[:150]]


def _identification(image: Image, source: Source) -> Flowable:
    header = source.headers[0]
    study = [shown_date(str(header.get("StudyDate") or "")), shown_time(str(header.get("StudyTime") or ""))]
    slices = image.grid.shape[0]
    named = [
        ("Patient", shown_name(header)),
        ("Patient ID", header.get("PatientID")),
        ("Born", shown_date(str(header.get("PatientBirthDate") or ""))),
        ("Sex", header.get("PatientSex")),
        ("Accession number", header.get("AccessionNumber")),
        ("Study", " ".join(part for part in study if part)),
        ("Description", header.get("StudyDescription")),
        ("Images", f"{header.Modality}, {slices} slices" if slices > 1 else str(header.Modality)),
        ("Study UID", header.StudyInstanceUID),
        ("Series UID", header.SeriesInstanceUID),
    ]
    cells = [
        cell for name, value in named for cell in (Paragraph(name, _NOTE), Paragraph(_fit(str(value or "-")), _BODY))
    ]
    rows = [cells[start : start + 4] for start in range(0, len(cells), 4)]
    return Table(rows, colWidths=[24 * mm, _WIDTH / 2 - 24 * mm] * 2, style=_LINES)


def _answers(findings: Findings) -> list[Flowable]:
    """All that was asked, in its order, a row each."""
    content: list[Flowable] = [Paragraph("What was asked", _HEADING)]
    if not findings.findings:
        text = findings.answer or NOTHING_RECOGNISED
        return [*content, Paragraph(_fit(text), _BODY)]
    rows = [[Paragraph(name, _NOTE) for name in ("", "answer", "presence", "measured")]]
    for finding in findings.findings:
        presence = "-" if finding.presence is None else f"{finding.presence:.2f}"
        measured = "; ".join(_measured(finding)) or "-"
        answer = outcome(finding)
        texts = (asked(finding), f"<b>{answer}</b>" if finding.is_present else answer, presence, measured)
        rows.append([Paragraph(text if text.startswith("<b>") else _fit(text), _BODY) for text in texts])
    widths = [0.34 * _WIDTH, 0.2 * _WIDTH, 0.12 * _WIDTH, 0.34 * _WIDTH]
    return [*content, Table(rows, colWidths=widths, style=_LINES, repeatRows=1)]


def _measured(finding: Finding) -> list[str]:
    return [
        f"{measurement.name} {written(measurement.value, measurement.unit)}"
        if np.isfinite(measurement.value)
        else f"{measurement.name}: not finite"
        for measurement in finding.measurements
    ]


def _pictures(findings: Findings, image: Image, source: Source) -> list[Flowable]:
    """Each finding with a region: the slice where it is largest, and what is said of it."""
    content: list[Flowable] = []
    for number in segmented_findings(findings):
        finding = findings.findings[number]
        shown = best_slice(image, finding)
        slices = image.grid.shape[0]
        where = f"slice {shown + 1} of {slices}" if slices > 1 else ""
        name = tracking_id(findings, number)
        caption = ", ".join(part for part in (name, finding.status, where) if part)
        words: list[Flowable] = [
            Paragraph(f"<b>{_fit(name)}</b>: {outcome(finding)}", _BODY),
            Spacer(0, 4),
            *(Paragraph(_fit(line), _BODY) for line in _measured(finding)),
            Spacer(0, 4),
            Paragraph(_fit(in_words(finding)), _BODY),
            Spacer(0, 4),
            *(Paragraph(_fit(line), _NOTE) for line in _place(where, source, shown)),
        ]
        widths = [_PICTURE_WIDTH + 4 * mm, _WIDTH - _PICTURE_WIDTH - 4 * mm]
        picture = _picture(captioned_overlay(image, finding, shown, caption))
        row = Table([[picture, words]], colWidths=widths, style=_SIDE_BY_SIDE)
        first = [] if content else [Paragraph("What was found", _HEADING)]
        content.append(KeepTogether([*first, row, Spacer(0, 6)]))
    return content


def _place(where: str, source: Source, shown: int) -> list[str]:
    """Which slice a picture shows, and which sides of the patient its edges are, as far as that is known."""
    lines = [f"The picture is {where}, in which the region is largest."] if where else []
    sides = [str(side)[:1] for side in picture_orientation(source, source.headers[shown], shown) or ()]
    if len(sides) == 2 and set(sides) <= set(_SIDES):
        right, lower = (_SIDES[side] for side in sides)
        lines.append(f"Its right edge is the patient's {right}, its lower edge the {lower}.")
    return lines


def _picture(pixels: np.ndarray) -> Flowable:
    """A picture of uint8 (row, column, 3) that fits beside its words; lossy, for the eye alone."""
    painted = PillowImage.fromarray(pixels)
    painted.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), PillowImage.Resampling.LANCZOS)
    buffer = io.BytesIO()
    painted.save(buffer, format="JPEG", quality=90, subsampling=0)
    scale = min(_PICTURE_WIDTH / painted.width, _PICTURE_HEIGHT / painted.height)
    picture = Picture(io.BytesIO(buffer.getvalue()), painted.width * scale, painted.height * scale)
    picture.hAlign = "LEFT"
    return picture


def _not_found(findings: Findings) -> list[Flowable]:
    lines = []
    for finding in findings.findings:
        if not finding.is_present:
            why = finding.reason or ("the presence is unclear" if finding.status is FindingStatus.UNCERTAIN else "")
            lines.append(f"{asked(finding)}: {outcome(finding)}" + (f": {why}" if why else ""))
    return _list("Asked and not found", lines)


def _making(findings: Findings, image: Image, created: datetime) -> list[Flowable]:
    model = findings.model
    lines = [
        f"Model: {model_name(model)} {model.version}",
        f"SHA-256 of its weights: {model.weights_sha256}",
        f"Read as: {findings.modality.value}{' (assumed)' if image.is_modality_assumed else ''}",
        f"Prompts: {'; '.join(f.prompt for f in findings.findings if f.prompt) or 'none, recognise what is there'}",
        f"Made: {created:%Y-%m-%d %H:%M:%S}",
    ]
    return _list("How it was made", lines)


def _list(heading: str, lines: Sequence[str]) -> list[Flowable]:
    if not lines:
        return []
    first, *others = (Paragraph(_fit(line), _BODY) for line in lines)
    return [KeepTogether([Paragraph(heading, _HEADING), first]), *others]


def _fit(text: str) -> str:
    """Text as a paragraph takes it: escaped, and of characters that the font has."""
    return escape(_printable(text))


def _printable(text: str) -> str:
    known = _characters()
    return "".join(c if ord(c) in known else "?" for c in re.sub(r"\s+", " ", text))


@cache
def _characters() -> frozenset[int]:
    _register_fonts()
    return frozenset(pdfmetrics.getFont(_REGULAR).face.charToGlyph)


@cache
def _register_fonts() -> None:
    for name, path in ((_REGULAR, font_roboto.Roboto), (_BOLD, font_roboto.RobotoBold)):
        pdfmetrics.registerFont(TTFont(name, path))
    pdfmetrics.registerFontFamily(_REGULAR, normal=_REGULAR, bold=_BOLD, italic=_REGULAR, boldItalic=_BOLD)
