"""What pulls in learning from corrections: towards the corrected masks, and back to the old answers for all else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rcmed.model.modeling import RCMedOutput
from rcmed.training.losses import WEIGHTS, boundary, halve, soft_dice

# More, and a target that the old weights overlook can hardly be taught; less, and presence rises for all others.
_PRESENCE_STAYS = 0.4


def learning_loss(output: RCMedOutput, masks: Tensor, presence: Tensor | None) -> Tensor:
    """The loss of training (`rcmed.training.losses`), as a mean over the turns of the closed loop.

    Args:
        output: of the prompts.
        masks: bool (prompt, size, size), empty where the target is absent.
        presence: probability that is wanted, float (prompt,); None for weights without presence.
    """
    assert output.turns is not None
    present = masks.flatten(1).any(1)
    wanted, weight = masks.float(), present.float()
    count = weight.sum().clamp(min=1)
    losses = []
    for mask_logits, presence_logits in output.turns:
        logits = F.interpolate(mask_logits[:, None], size=masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        loss = WEIGHTS["cross_entropy"] * F.binary_cross_entropy_with_logits(logits, wanted)
        loss = loss + WEIGHTS["dice"] * (soft_dice(logits, wanted) * weight).sum() / count
        edges = (boundary(halve(logits), halve(wanted)).mean((1, 2)) * weight).sum() / count
        loss = loss + WEIGHTS["boundary"] * edges
        if presence_logits is not None and presence is not None:
            loss = loss + WEIGHTS["presence"] * F.binary_cross_entropy_with_logits(presence_logits, presence)
        losses.append(loss)
    return torch.stack(losses).mean()


def staying_loss(new: RCMedOutput, old: RCMedOutput) -> Tensor:
    """How far the new answers are from the old ones: masks as probabilities, and presence."""
    assert new.mask_logits is not None and old.mask_logits is not None
    wanted = old.mask_logits.sigmoid()
    loss = F.binary_cross_entropy_with_logits(new.mask_logits, wanted) - F.binary_cross_entropy(wanted, wanted)
    # Dice with squares: unlike the plain one it is best where both are the same, and small masks count as large ones.
    masks = new.mask_logits.sigmoid()
    overlap = (2 * (masks * wanted).sum((1, 2)) + 1) / (masks.square().sum((1, 2)) + wanted.square().sum((1, 2)) + 1)
    loss = loss + (1 - overlap).mean()
    if new.presence_logits is not None and old.presence_logits is not None:
        # Of logits, not of probabilities: those of absent targets hardly show that presence rises for everything.
        loss = loss + _PRESENCE_STAYS * F.smooth_l1_loss(new.presence_logits, old.presence_logits)
    return loss
