"""Choose the constants with which slices become one mask in three dimensions, and presence of slices that of a volume.

python benchmarks/volume_constants.py VOLUMES CACHE [--model MODEL] [--crop none|body|both] [--only NAME,...]
    [--processes N] [--write]

VOLUMES holds volumes with label maps (`rcmed.data.labelled_volumes`), of which those of `volume_cache.CHOOSING` are
read, with MNI152, a healthy brain; of each, targets are asked that surely are not there, too. What the weights say is
kept in CACHE, in a folder of these weights; what is there is not read again. Then the tables are printed and what is
taken of each: whether CT slices are cut to the body (where both ways were read), what presence of a volume is as good
as a slice's thresholds, how slices are joined. `--write` writes it into MODEL's `config.json` (`volumes`), where it
is read from; without it that is printed alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from volume_cache import Asked, fill_cache, load_cache, was_cut

if TYPE_CHECKING:
    from rcmed.inference.decision import PresenceRule
    from rcmed.inference.volume_rule import Joining

SMOOTHING_MM = (0.0, 1.5, 3.0)
PRESENCE_WEIGHTS = (0.0, 1.0, 2.0, 4.0)
SUREST_QUANTILES = (1.0, 0.75)
GROWTH = (-0.5, 0.0, 0.5)
SEEDS = (2.0, 4.0, 6.0)
# Of those whose Dice is within this of the best, the one is taken whose neighbouring slices agree most.
AS_GOOD = 0.01
ACCUMULATIONS = (0.25, 0.5, 0.75, 1.0)
# Presence of a volume below which "absent" may be chosen to begin; of equally good ones the lowest.
ABSENT_BELOW = tuple(round(0.2 + 0.02 * step, 2) for step in range(16))
# Slices are cut to the body where Dice gains at least this.
LEAST_GAIN = 0.01

_there: list[Asked] = []
_rule: PresenceRule | None = None


def joined(asked: Asked, joining: Joining, rule: PresenceRule) -> NDArray[np.bool_]:
    """The mask that a volume gets; where it is absent, too."""
    from rcmed.inference.packed_logits import HIGHEST
    from rcmed.inference.volume_masks import join_slices, keep_parts
    from rcmed.vocabulary.table import target_named

    target = target_named(asked.name)
    is_kept = kept_slices(asked, rule)
    logits = np.clip(asked.logits.astype(np.float32), -HIGHEST, HIGHEST)
    logits[~is_kept] = -HIGHEST
    logits = join_slices(logits, asked.presence, asked.distance_mm, joining)
    logits[~is_kept] = joining.growth - 1
    return keep_parts(logits, target.parts, (target.least_ml or 0) / asked.cell_ml, joining) > joining.growth


def kept_slices(asked: Asked, rule: PresenceRule) -> NDArray[np.bool_]:
    """Slices that may show the target."""
    from rcmed.inference.volume import smooth

    is_kept = smoothed_presence(asked)[0] >= rule.absent_below
    if rule.sure_mask_logit is not None:
        is_kept |= smooth(asked.sureness, smoothed_presence(asked)[1]) >= rule.sure_mask_logit
    return is_kept


def smoothed_presence(asked: Asked) -> tuple[NDArray[np.float32], int]:
    """Means of windows of neighbouring slices, and their number."""
    from rcmed.inference.volume import presence_window, smooth

    window = min(presence_window(asked.distance_mm), len(asked.presence))
    return smooth(asked.presence, window), window


def slice_by_slice(asked: Asked, rule: PresenceRule) -> NDArray[np.bool_]:
    """The mask of slices each on its own, without those that presence refuses and without islands: as it was before."""
    from rcmed.inference.volume import drop_islands

    return drop_islands((asked.logits > 0) & kept_slices(asked, rule)[:, None, None])


def scores(asked: Sequence[Asked], masks: Sequence[NDArray[np.bool_]]) -> list[float]:
    """Dice, the mean over volumes of means over their targets; medians of parts, of volume ratio, and of agreement."""
    from rcmed.evaluation.volumes.metrics import count_parts, neighbour_agreement

    dice: dict[str, list[float]] = defaultdict(list)
    parts, ratios, agreements = [], [], []
    for each, mask in zip(asked, masks, strict=True):
        dice[each.volume].append(2 * float((mask & each.truth).sum()) / float(mask.sum() + each.truth.sum()))
        if mask.any():
            parts.append(count_parts(mask))
            ratios.append(float(mask.sum() / each.truth.sum()))
            agreements.append(neighbour_agreement(mask))
    by_volume = [float(np.mean(values)) for values in dice.values()]
    return [float(np.mean(by_volume)), *(float(np.nanmedian(each or [np.nan])) for each in (parts, ratios, agreements))]


def scores_joined(joining: Joining | None) -> list[float]:
    """`scores` of what is there; None: slice by slice. For processes of their own."""
    assert _rule is not None
    masks = [slice_by_slice(each, _rule) if joining is None else joined(each, joining, _rule) for each in _there]
    return scores(_there, masks)


def choose_joining(asked: Sequence[Asked], rule: PresenceRule, processes: int) -> Joining:
    """Two grids of masks, the best first: how slices are joined, then from where on a mask grows in the best one."""
    from rcmed.inference.volume_rule import Joining

    global _rule
    _there[:], _rule = [each for each in asked if each.is_there], rule
    print(f"\n{len(_there)} targets of {len({each.volume for each in _there})} volumes\n")
    print("| smoothing, mm | presence weight | surest | growth | seed | Dice | parts | volume ratio | neighbours |")
    print("| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: |")
    known: dict[Joining | None, list[float]] = {}

    def score(grid: Sequence[Joining | None]) -> None:
        missing = [joining for joining in grid if joining not in known]
        # What was loaded is shared with processes that are forked; none of them runs the network.
        with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
            known.update(zip(missing, pool.map(scores_joined, missing), strict=True))

    def best_of(grid: Sequence[Joining]) -> Joining:
        score([None, *grid])
        ordered = sorted(grid, key=lambda joining: (-known[joining][0], str(joining)))
        for joining in ordered:
            how = joining.smoothing_mm, joining.presence_weight, joining.surest_quantile
            point = *how, joining.growth, joining.seed
            cells = " | ".join(f"{value:.3f}" for value in known[joining])
            print(f"| {' | '.join(f'{x:g}' for x in point)} | {cells} |", flush=True)
        good = [joining for joining in grid if known[joining][0] >= known[ordered[0]][0] - AS_GOOD]
        return max(good, key=lambda joining: (round(known[joining][3], 2), known[joining][0]))

    ways = product(SMOOTHING_MM, PRESENCE_WEIGHTS, SUREST_QUANTILES)
    grid = [
        replace(Joining(), smoothing_mm=mm, presence_weight=weight, surest_quantile=quantile)
        for mm, weight, quantile in ways
        if weight or quantile == SUREST_QUANTILES[0]
    ]
    joins = best_of(grid)
    print("| | | | | | | | | |")
    taken = best_of([replace(joins, growth=growth, seed=seed) for growth, seed in product(GROWTH, SEEDS)])
    print(f"| slice by slice | | | | | {' | '.join(f'{value:.3f}' for value in known[None])} |")
    print(f"\nTaken: {taken}", flush=True)
    return taken


@dataclass(frozen=True)
class Said:
    """What a rule says of volumes.

    Attributes:
        there, not_there: (absent, uncertain, found) among targets that are there, or not.
        wrongly_absent: called absent though in a fifth of the slices, which say yes in the mean.
        wrongly_found: found though not there.
        possible: of those, what anatomy does not refuse.
    """

    there: tuple[int, int, int]
    not_there: tuple[int, int, int]
    wrongly_absent: tuple[str, ...]
    wrongly_found: tuple[str, ...]
    possible: int

    def row(self, name: str, auc: float) -> str:
        """Of a table."""
        cells = *self.there, len(self.wrongly_absent), *self.not_there, self.possible
        return f"| {name} | {auc:.3f} | {' | '.join(map(str, cells))} |"


def judge(asked: Sequence[Asked], values: Sequence[float], thresholds: tuple[float, float], hears_runs: bool) -> Said:
    """Make words of presence of volumes."""
    from rcmed.inference.volume import runs_through

    counts = {True: [0, 0, 0], False: [0, 0, 0]}
    absent, found, possible = [], [], 0
    for each, value in zip(asked, values, strict=True):
        place = int(value >= thresholds[0]) + int(value >= thresholds[1])
        if place == 0 and hears_runs:
            place = int(runs_through(each.presence, smoothed_presence(each)[1]))
        counts[each.is_there][place] += 1
        shown = each.truth.any(axis=(1, 2))
        if place == 0 and shown.mean() >= 0.2 and each.presence[shown].mean() > 0.5:
            absent.append(f"{each.name} ({each.volume})")
        if place == 2 and not each.is_there:
            found.append(f"{each.name} ({each.volume}) {value:.2f}")
            possible += not each.is_refused
    there, not_there = ((one[0], one[1], one[2]) for one in (counts[True], counts[False]))
    return Said(there, not_there, tuple(absent), tuple(found), possible)


def choose_presence(
    asked: Sequence[Asked], whole: Sequence[Asked], rule: PresenceRule
) -> tuple[float, tuple[float, float]]:
    """What presence of volumes is as good as a slice's thresholds: no more is found that is not there than before.

    Args:
        asked: of volumes as they will be read.
        whole: the same, read whole, of which the surest window alone decided before.
    """
    from rcmed.inference.volume import presence_of_best, presence_of_volume

    def heard(how: Callable[[NDArray[np.float32], int], float], them: Sequence[Asked]) -> list[float]:
        return [how(*smoothed_presence(each)) for each in them]

    of_slices = rule.absent_below, rule.found_from
    best = heard(lambda said, window: presence_of_best(float(said.max()), len(said) / window), whole)
    before = judge(whole, best, of_slices, False)
    allowed = before.not_there[2]
    print(f"\n{sum(each.is_there for each in asked)} targets are there, {sum(before.not_there)} are not\n")
    print("| accumulation, thresholds | AUC | there: absent | uncertain | found | over 0.5 in a fifth: absent", end=" ")
    print("| not there: absent | uncertain | found | and possible |\n|" + " --- |" * 10)
    print(before.row("the surest window alone", area_under_curve(whole, best)))
    choices = []
    for accumulation in ACCUMULATIONS:
        values = heard(lambda said, window, a=accumulation: presence_of_volume(said, window, a), asked)
        auc = area_under_curve(asked, values)
        as_slices = judge(asked, values, of_slices, True)
        print(as_slices.row(f"{accumulation:g}, {of_slices[0]:g} {of_slices[1]:g}", auc))
        thresholds = calibrated(asked, values, allowed)
        said = judge(asked, values, thresholds, True)
        print(said.row(f"{accumulation:g}, {thresholds[0]:g} {thresholds[1]:g}", auc), flush=True)
        choices.append(((said.there[2], round(auc, 2), accumulation), thresholds, said))
    (_, _, accumulation), thresholds, said = max(choices, key=lambda choice: choice[0])
    for what, names in (("absent though there", said.wrongly_absent), ("found though not there", said.wrongly_found)):
        print(f"\n{what}: {'; '.join(names) or 'none'}")
    print(f"\nTaken: accumulation {accumulation:g}, thresholds {thresholds[0]:g} and {thresholds[1]:g}", flush=True)
    return accumulation, thresholds


def calibrated(asked: Sequence[Asked], values: Sequence[float], allowed: int) -> tuple[float, float]:
    """Thresholds (absent below, found from) with which at most `allowed` are found that are not there.

    "Found" begins midway, in log-odds, between the last that is allowed and the first that is not. "Absent" ends where
    most is told right of both, what is there and what is not.
    """
    from rcmed.inference.volume import log_odds

    there = np.array([value for each, value in zip(asked, values, strict=True) if each.is_there])
    not_there = np.sort([value for each, value in zip(asked, values, strict=True) if not each.is_there])[::-1]
    first_refused = log_odds(float(not_there[allowed])) if allowed < len(not_there) else log_odds(0.5)
    last_allowed = log_odds(float(not_there[allowed - 1])) if allowed else first_refused + 0.4
    middle = 1 / (1 + exp(-max(first_refused + 0.02, (first_refused + last_allowed) / 2)))
    found_from = min(0.99, max(0.6, np.ceil(middle * 1000) / 1000))

    def told_right(threshold: float) -> float:
        return float((there >= threshold).mean() + (not_there < threshold).mean())

    absent_below = max(ABSENT_BELOW, key=lambda threshold: (round(told_right(threshold), 3), -threshold))
    return absent_below, float(found_from)


def area_under_curve(asked: Sequence[Asked], values: Sequence[float]) -> float:
    """How often presence of what is there is higher than of what is not; nan where either is empty."""
    one, other = (np.array([v for a, v in zip(asked, values, strict=True) if a.is_there == is_it]) for is_it in (1, 0))
    if not len(one) or not len(other):
        return float("nan")
    difference = one[:, None] - other[None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def choose_crop(folder: Path, whole: Sequence[Asked], cut: Sequence[Asked], rule: PresenceRule) -> bool:
    """Whether cutting slices to the body gains, in the volumes where it changes anything."""
    from rcmed.inference.volume_rule import Joining

    print(
        "\n| volume | target | slices | presence where shown, whole, cut | elsewhere, whole, cut | Dice, whole, cut |"
    )
    print("|" + " --- |" * 6)
    dice: dict[str, list[list[float]]] = defaultdict(list)
    for one, other in zip(whole, cut, strict=True):
        if not was_cut(folder, one.volume):
            continue
        shown = one.truth.any(axis=(1, 2))
        cells = [
            ", ".join(f"{each.presence[place].mean():.2f}" for each in (one, other)) if place.any() else ""
            for place in (shown, ~shown)
        ]
        if one.is_there:
            masks = [joined(each, Joining(), rule) for each in (one, other)]
            pair = [2 * float((m & one.truth).sum()) / float(m.sum() + one.truth.sum()) for m in masks]
            dice[one.volume].append(pair)
            cells.append(f"{pair[0]:.2f}, {pair[1]:.2f}")
        print(f"| {one.volume} | {one.name} | {shown.mean():.2f} | {' | '.join(cells)} |")
    if not dice:
        return False
    before, after = np.mean([np.mean(pairs, axis=0) for pairs in dice.values()], axis=0)
    is_taken = bool(after - before >= LEAST_GAIN)
    print(f"\nDice {before:.3f} whole, {after:.3f} cut; taken: {'cut' if is_taken else 'whole'}", flush=True)
    return is_taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volumes", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--model", default="small")
    parser.add_argument("--crop", choices=("none", "body", "both"), default="both")
    parser.add_argument("--only", default="", help="names of volumes of volume_cache.CHOOSING, with commas")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    from rcmed.inference.body_crop import LARGEST_SHARE
    from rcmed.inference.decision import PresenceRule
    from rcmed.inference.volume_rule import VolumeRule
    from rcmed.model.config import RCMedConfig
    from rcmed.model.packaged import require_complete

    started = time.perf_counter()

    def took(what: str) -> None:
        print(f"\n{what}: done after {time.perf_counter() - started:.0f} s", flush=True)

    only = [name for name in asked.only.split(",") if name]
    ways = {"none": (False,), "body": (False, True), "both": (False, True)}[asked.crop]
    folder = fill_cache(asked.volumes, asked.cache, asked.model, ways, only)
    took("reading")
    path = Path(require_complete(asked.model)) / "config.json"
    rule = PresenceRule.of(RCMedConfig.from_pretrained(str(path.parent)))
    whole = load_cache(folder, False, only)
    cut = load_cache(folder, True, only) if asked.crop != "none" else whole
    is_cut = {"none": False, "body": True, "both": False}[asked.crop]
    if asked.crop == "both":
        is_cut = choose_crop(folder, whole, cut, rule)
        took("crop")
    accumulation, thresholds = choose_presence(cut if is_cut else whole, whole, rule)
    took("presence")
    joining = choose_joining(cut if is_cut else whole, rule, asked.processes)
    took("masks")
    taken = VolumeRule(thresholds, accumulation, LARGEST_SHARE if is_cut else 0.0, joining).constants()
    print(f'\n"volumes": {json.dumps(taken)}')
    if asked.write:
        config = {**json.loads(path.read_text()), "volumes": taken}
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
