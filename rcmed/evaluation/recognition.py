"""What was recognised, and where: precision and recall of targets, and of their boxes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data.box_utils import box_iou
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from rcmed.evaluation.rows import ScoreRow
from rcmed.findings import Box

BOX_IOU = 0.5


@dataclass(frozen=True)
class BoxCounts:
    """Boxes of one target in one image.

    Attributes:
        found: of the model.
        true: of the truth.
        matched: pairs of the two with an IoU of at least 0.5, each box in one pair at most.
    """

    found: int
    true: int
    matched: int


def count_boxes(found: Sequence[Box], true: Sequence[Box]) -> BoxCounts:
    """Match the boxes of one slice so that as many pairs as possible overlap enough."""
    if not found or not true:
        return BoxCounts(len(found), len(true), 0)
    overlaps = np.asarray(box_iou(_corners(found), _corners(true)))
    enough: NDArray[np.bool_] = overlaps >= BOX_IOU
    rows, columns = linear_sum_assignment(enough, maximize=True)
    return BoxCounts(len(found), len(true), int(enough[rows, columns].sum()))


def _corners(boxes: Sequence[Box]) -> torch.Tensor:
    """float (box, 4): first column and row, and one beyond the last."""
    return torch.tensor(
        [[*reversed(box.first[1:]), *(last + 1 for last in reversed(box.last[1:]))] for box in boxes],
        dtype=torch.float32,
    )


def recognition_table(rows: Iterable[ScoreRow]) -> list[str]:
    """Markdown lines: per modality, precision and recall of the targets found, and F1 of their boxes.

    Only labelled targets count: what was found beside them is neither right nor wrong.
    """
    groups: dict[str, list[ScoreRow]] = defaultdict(list)
    for row in rows:
        groups[row.modality].append(row)
        groups["all"].append(row)
    lines = [
        "| modality | labelled | present | found | precision | recall | box F1 (IoU 0.5) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for modality in [*sorted(set(groups) - {"all"}), *(["all"] if groups else [])]:
        members = groups[modality]
        present, found = sum(row.present for row in members), sum(row.found for row in members)
        right = sum(row.present and row.found for row in members)
        matched = sum(row.boxes_matched for row in members)
        all_boxes = sum(row.boxes_found + row.boxes_true for row in members)
        cells = [_ratio(right, found), _ratio(right, present), _ratio(2 * matched, all_boxes)]
        lines.append(f"| {modality} | {len(members)} | {present} | {found} | {' | '.join(cells)} |")
    return lines


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"
