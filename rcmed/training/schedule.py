"""The learning rate over a run."""

from __future__ import annotations

import math


def warm_cosine(step: int, steps: int, warmup_steps: int, lowest: float = 0.0) -> float:
    """Linear warm-up to 1, then half a cosine down to `lowest` at the last step.

    Args:
        step: from 0.
        steps: of the whole schedule.
        warmup_steps: of these, the first ones that rise.
        lowest: factor at the end.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
