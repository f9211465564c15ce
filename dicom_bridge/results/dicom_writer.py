"""What the bridge adds to the answers of `rcmed find`: the objects beside those of DICOM images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dicom_bridge.results.kinds import DEFAULT_RESULTS, FILE_PATTERNS, ResultKind
from rcmed.answers.writing import AnswerWriter
from rcmed.errors import InputError
from rcmed.findings import Findings
from rcmed.image import Image


class _DicomWriter:
    """The objects beside the other answers of one image (`rcmed.answers.writing.AnswerWriter`)."""

    file_names: Sequence[str] = FILE_PATTERNS

    def require_kinds(self, kinds: Sequence[str]) -> None:
        """Whether all of them are of `ResultKind`; raises InputError where one is not."""
        for kind in kinds:
            if kind not in set(ResultKind):
                raise InputError(f"--results: {kind!r} is no result: use {', '.join(ResultKind)}")

    def __call__(self, image: Image, findings: Findings, folder: Path, kinds: Sequence[str] = ()) -> list[str]:
        """Write objects; images that did not come from DICOM are passed over.

        UIDs derive from the series, its instances, the weights and the instruction: asked again, the results are the
        same.

        Args:
            image, findings: what is written.
            folder: where.
            kinds: of `ResultKind`; none: SEG and SR.
        Returns:
            a line for each object that can't be written, with the reason, and for each attribute that is not in them
            as it was in the source.
        Raises:
            InputError: a kind is not known.
        """
        self.require_kinds(kinds)
        if not image.sources:
            return []
        # Only now: of a picture, nothing of DICOM is needed.
        from dicom_bridge.results.filing import file_results
        from dicom_bridge.results.identifiers import ResultIdentifiers

        identity = [
            *(f"{source.sop_instance_uid}/{source.frame_number}" for source in image.sources),
            findings.model.weights_sha256,
            *(finding.prompt for finding in findings.findings),
        ]
        identifiers = ResultIdentifiers.derive("\n".join(identity))
        wanted = [ResultKind(kind) for kind in kinds] or DEFAULT_RESULTS
        filed = file_results(image, findings, identifiers, folder, wanted)
        return [*filed.refusals, *filed.losses]


write_results: AnswerWriter = _DicomWriter()
