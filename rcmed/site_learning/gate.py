"""The gate between what was learned and what is served.

A part of the patients is never trained on (`rcmed.data.collected.patient_bucket`). On their slices candidate and
served model are compared, and the candidate is served only if

1. the mean Dice of the corrected targets rises on the held-out corrections of this batch, and none of them falls;
2. no target falls on the guard: held-out corrections that were accepted before, and references that the site put aside;
3. no other target moves where nobody labelled it: there the candidate agrees with what the served model was sure of.

"Falls" is by more than 0.02.

A batch that is wrong throughout (masks of the wrong target) is wrong in its held-out part as well, and 1 alone would
welcome it. What is known independently of the batch is the guard and the served model, so before anything is trained
the batch's own masks are compared with both (`suspicions`), by target and user:

- a target that the served model finds well on the guard, but not in this batch, was drawn wrongly in this batch;
- masks that agree with the served model's answers for another target, and not with those for their own, bear the wrong
  name;
- where the served model is sure of a target in nearly every image and the masks lie elsewhere in all of them, a person
  has to say who is right.

What this can't know: a target that the served model does not find and of which there is no guard can be taught
anything, as long as no other target moves. It is then found on the next batch, whose guard the first has become, and
mended by a roll-back. A person who is sure confirms a suspicious batch; the three rules above hold for it all the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcmed.data.collected import CollectedSlice
from rcmed.model.modeling import RCMedModel
from rcmed.model.processor import RCMedProcessor
from rcmed.site_learning.judging import Answer, agreement, agreements, ask, mean_by_target, other_targets, score_pairs
from rcmed.site_learning.verdict import Figures, Kind, Verdict
from rcmed.training.batches.packed import PackedTriplet, pack_collected

LARGEST_FALL = 0.02
# A smaller rise is noise of the last digits.
LEAST_RISE = 0.002
FEWEST_PAIRS = 2
# From here on the served model knows a target: what contradicts it has to be explained.
KNOWN_DICE = 0.5
# A batch on which it finds less than this share of what it finds on the guard contradicts it.
CONTRADICTING_SHARE = 0.5
MISTAKEN_MARGIN = 0.3
ELSEWHERE_DICE = 0.1
SURE_SHARE = 0.8
FEWEST_SUSPICIOUS_PAIRS = 3


@dataclass(frozen=True)
class Suspicion:
    """A group of masks that can't be right, as far as guard and served model know.

    Attributes:
        target, user: whose masks of what.
        corrections: their identifiers.
        reason: a line for a person.
    """

    target: str
    user: str
    corrections: tuple[str, ...]
    reason: str


def suspicions(
    served: RCMedModel,
    processor: RCMedProcessor,
    batch: Sequence[CollectedSlice],
    guard: Sequence[PackedTriplet],
) -> list[Suspicion]:
    """Compare a batch's masks with the guard and with the served model's answers, by target and user.

    Args:
        batch: all slices of the new corrections, held-out ones too.
        guard: slices that are known to be right.
    """
    packed = [pack_collected(each, processor.image_size) for each in batch]
    names = [sorted({*each.masks, *other_targets(served, each, ())}) if each.masks else [] for each in packed]
    answers = ask(served, processor, packed, names)
    known = mean_by_target([s for s in score_pairs(served, processor, guard)])
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, each in enumerate(batch):
        for name in each.masks:
            groups[name, each.user].append(index)
    found = []
    for (name, user), members in sorted(groups.items()):
        if len(members) < FEWEST_SUSPICIOUS_PAIRS:
            continue
        reason = _contradiction(name, [packed[i] for i in members], [answers[i] for i in members], known.get(name))
        if reason:
            corrections = tuple(sorted({batch[i].correction for i in members}))
            found.append(Suspicion(name, user, corrections, f"{len(members)} masks of `{name}` by `{user}`: {reason}"))
    return found


def _contradiction(
    name: str, slices: Sequence[PackedTriplet], answers: Sequence[dict[str, Answer]], known: tuple[float, int] | None
) -> str | None:
    drawn = [each.mask(name).numpy() for each in slices]
    own = np.array([agreement(answer[name].mask, mask) for answer, mask in zip(answers, drawn, strict=True)])
    if known is not None and known[1] >= FEWEST_SUSPICIOUS_PAIRS and known[0] >= KNOWN_DICE:
        if own.mean() < CONTRADICTING_SHARE * known[0]:
            return (
                f"the served model has Dice {known[0]:.2f} on {known[1]} accepted ones, but {own.mean():.2f} on these"
            )
        return None
    for other in sorted(set.intersection(*(set(answer) for answer in answers)) - {name}):
        marked = [answer[other].mask for answer in answers]
        likeness = np.array([agreement(mask, truth) for mask, truth in zip(marked, drawn, strict=True)])
        drawn_so_too = [
            other in each.masks and agreement(each.mask(other).numpy(), mask) > KNOWN_DICE
            for each, mask in zip(slices, drawn, strict=True)
        ]
        if likeness.mean() >= KNOWN_DICE and likeness.mean() >= own.mean() + MISTAKEN_MARGIN and not any(drawn_so_too):
            return f"they are like its `{other}` (Dice {likeness.mean():.2f}), not like its `{name}` ({own.mean():.2f})"
    is_sure = np.mean([answer[name].is_found for answer in answers])
    if is_sure >= SURE_SHARE and own.max() < ELSEWHERE_DICE:
        return f"the served model is sure in {is_sure:.0%} of them, and nowhere near (Dice at most {own.max():.2f})"
    return None


def judge(
    served: RCMedModel,
    candidate: RCMedModel,
    processor: RCMedProcessor,
    held_out: Sequence[PackedTriplet],
    guard: Sequence[PackedTriplet],
    unlabelled: Sequence[PackedTriplet] = (),
) -> Verdict:
    """Compare a candidate with the served model on what neither was trained on.

    Args:
        held_out: of this batch.
        guard: accepted before, or put aside by the site.
        unlabelled: further slices, on which other targets must stay.
    """
    corrected = {name for each in held_out for name in (*each.masks, *each.absent)}
    figures = [
        *_compared(served, candidate, processor, held_out, Kind.CORRECTED),
        *_compared(served, candidate, processor, guard, Kind.GUARD),
        *(
            Figures(target=name, kind=Kind.OTHER, pairs=count, before=1.0, after=mean)
            for name, (mean, count) in agreements(
                served, candidate, processor, [*held_out, *guard, *unlabelled], corrected
            ).items()
        ),
    ]
    reasons = []
    pairs = [each for each in figures if each.kind is Kind.CORRECTED]
    few = [each.target for each in pairs if each.pairs < FEWEST_PAIRS]
    if not pairs or few:
        what = f" of {', '.join(few)}" if few else ""
        reasons.append(f"fewer than {FEWEST_PAIRS} held-out corrections{what}: submit more, of other patients")
    total = sum(each.pairs for each in pairs)
    before = sum(each.before * each.pairs for each in pairs) / max(total, 1)
    after = sum(each.after * each.pairs for each in pairs) / max(total, 1)
    if pairs and after < before + LEAST_RISE:
        reasons.append(f"held-out Dice of the corrected targets does not rise: {before:.3f} to {after:.3f}")
    for each in figures:
        if each.change < -LARGEST_FALL:
            reasons.append(f"`{each.target}` ({each.kind.value}) falls by {-each.change:.3f}")
    if reasons:
        return Verdict(accepted=False, reasons=tuple(reasons), figures=tuple(figures))
    rise = f"held-out Dice of the corrected targets rises from {before:.3f} to {after:.3f} ({total} pairs)"
    return Verdict(accepted=True, reasons=(rise,), figures=tuple(figures))


def _compared(
    served: RCMedModel,
    candidate: RCMedModel,
    processor: RCMedProcessor,
    slices: Sequence[PackedTriplet],
    kind: Kind,
) -> list[Figures]:
    before = mean_by_target(score_pairs(served, processor, slices))
    after = mean_by_target(score_pairs(candidate, processor, slices))
    return [
        Figures(target=name, kind=kind, pairs=count, before=score, after=after[name][0])
        for name, (score, count) in before.items()
    ]
