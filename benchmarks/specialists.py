"""Train a specialist on each data set alone, and print one model against all of them, as Markdown.

python benchmarks/specialists.py ../shared/data/triplets                 # trains what is missing, then prints
python benchmarks/specialists.py ../shared/data/triplets --table-only    # prints what is finished
python benchmarks/specialists.py ../shared/data/triplets --table-only --write docs/specialists.md
python benchmarks/specialists.py ../shared/data/triplets --data-sets hc18 sts_ibsi:mr

ROOT holds image2label_2d_train.json and image2label_2d_test.json. Each data set has a folder under --output with its
checkpoint; a run that was stopped goes on. What is finished is kept under --results, which belongs to the project, and
is trained anew once it saw clearly less (`EVEN_SHARE`) than its data set was shown in the joint training. Several
processes may share both folders if they have other data sets. With `--write` the table replaces the one in the page.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from specialist import BATCH_IMAGES, Specialist

from rcmed import Assistant
from rcmed.data.triplets import Triplet, read_index
from rcmed.evaluation.metrics import score_mask
from rcmed.evaluation.scoring import score_triplet
from rcmed.modality import Modality
from rcmed.training.batches.packed import PackedTriplet
from rcmed.training.batches.sampler import BalancedSampler
from rcmed.training.settings import TrainingSettings

Group = tuple[str, Modality]
Found = dict[str, NDArray[np.bool_]]

# Those of which a least Dice is asked first, then by cost.
DATA_SETS = (
    "hyperkvasir_seg",
    "isic2017",
    "wbc_zheng2018",
    "msd_hippocampus",
    "chase_db1",
    "usgra",
    "dsb2018",
    "covid_v7",
    "kermany_v7",
    "hc18",
    "idrid",
    "idrid_tiles",
    "busi",
    "sts_ibsi:mr",
    "sts_ibsi:pet",
    "kits19",
    "msd_liver",
)
JOINT_RUN = Path(__file__).with_name("joint_run.yaml")
RESULTS = Path(__file__).with_name("specialist_results")
ALLOWED_LOSS = 0.01
EVEN_SHARE = 0.95
"""Of the joint training's image-steps: with fewer, a specialist is not its equal in a comparison."""
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


@dataclass(frozen=True)
class Result:
    """A finished specialist.

    Attributes:
        image_steps: shown to it; of_joint: how many its data set had in the joint run.
        seconds: of the processor, for its training.
        dice: of each target, mean over the test images that show it.
        test_images: of each target, how many these are.
    """

    dataset: str
    modality: str
    training_images: int
    image_steps: int
    of_joint: int
    parameters: int
    seconds: float
    dice: dict[str, float]
    test_images: dict[str, int]

    @property
    def is_even(self) -> bool:
        return self.image_steps >= EVEN_SHARE * self.of_joint


@dataclass(frozen=True)
class JointResult:
    """The joint model on the same images: Dice as users get it, and with every mask kept whatever its presence."""

    weights_sha256: str
    dice: dict[str, float]
    presence_aside: dict[str, float]


def joint_image_steps(triplets: Sequence[Triplet], run: Path) -> dict[Group, int]:
    """How many images of each data set the joint run showed, as its sampler weighs them at each stage."""
    told = yaml.safe_load(run.read_text())
    shown: Counter[Group] = Counter()
    for stage in told["stages"]:
        known = [_without_pixels(t.dataset, t.modality, (*t.masks, *t.labelled)) for t in triplets]
        for dataset, count in stage.get("healthy_controls", {}).items():
            known += [_without_pixels(dataset, Modality.MR, ("brain tumor",))] * count
        settings = TrainingSettings(size_exponent=told["size_exponent"], dataset_weights=stage["dataset_weights"])
        sampler = BalancedSampler(known, settings)
        for members, weight in zip(sampler.groups, sampler.weights, strict=True):
            one = sampler.triplets[members[0]]
            shown[one.dataset, one.modality] += weight * stage["steps"] * told["batch_images"]
    return {group: round(count) for group, count in shown.items()}


def _without_pixels(dataset: str, modality: Modality, names: tuple[str, ...]) -> PackedTriplet:
    return PackedTriplet(torch.empty(0), {}, names, (0, 0), modality, dataset)


def mean_dice(triplets: Iterable[Triplet], find: Callable[[Triplet], Found]) -> tuple[dict[str, float], dict[str, int]]:
    """Mean Dice of each target over the images that show it, and how many these are."""
    dice: dict[str, list[float]] = defaultdict(list)
    for triplet in triplets:
        found = find(triplet)
        for name in triplet.masks:
            truth = triplet.read_mask(name)
            if truth.any():
                dice[name].append(score_mask(found.get(name, np.zeros_like(truth)), truth).dice)
    return {name: float(np.mean(values)) for name, values in sorted(dice.items())}, {
        name: len(values) for name, values in sorted(dice.items())
    }


def score_joint(triplets: Sequence[Triplet], root: Path, assistant: Assistant) -> JointResult:
    """As `rcmed evaluate` does; then once more with no mask dropped for its presence."""

    def find(triplet: Triplet) -> Found:
        scored = score_triplet(triplet, root, assistant, sorted(triplet.masks), recognise=False, foreign=0)
        return {row.target: mask for row, mask in scored}

    dice, _ = mean_dice(triplets, find)
    config = assistant.model.config
    thresholds, config.presence_thresholds = config.presence_thresholds, [0.0, config.presence_thresholds[1]]
    try:
        aside, _ = mean_dice(triplets, find)
    finally:
        config.presence_thresholds = thresholds
    return JointResult(assistant.identity.weights_sha256, dice, aside)


def groups_named(names: Sequence[str], triplets: Sequence[Triplet]) -> list[Group]:
    """The (data set, modality) groups that names such as "hc18" or "sts_ibsi:mr" mean."""
    known = sorted({(triplet.dataset, triplet.modality) for triplet in triplets})
    chosen = []
    for name in names:
        dataset, _, modality = name.partition(":")
        matching = [group for group in known if group[0] == dataset and modality in ("", group[1].value)]
        if not matching:
            raise SystemExit(f"--data-sets: no training image of {name!r}; known: {', '.join(g[0] for g in known)}")
        chosen += matching
    return chosen


def run_specialist(
    group: Group, train: Sequence[Triplet], test: Sequence[Triplet], of_joint: int, specialist: Specialist
) -> Result:
    """Train to the end, with a line in `curve.jsonl` at each checkpoint, and score on the test images."""
    curve = specialist.folder / "curve.jsonl"
    for loss, seconds in specialist.train():
        line = json.dumps({"step": specialist.step, "loss": round(loss, 4), "seconds": round(seconds, 1)})
        print(f"{group[0]}, of {specialist.steps} steps: {line}", flush=True)
        with curve.open("a") as opened:
            opened.write(line + "\n")
    lines = curve.read_text().splitlines()
    dice, counts = mean_dice(test, specialist.answering())
    return Result(
        dataset=group[0],
        modality=group[1].value,
        training_images=len(train),
        image_steps=specialist.steps * BATCH_IMAGES,
        of_joint=of_joint,
        parameters=sum(parameter.numel() for parameter in specialist.network.parameters()),
        seconds=sum(json.loads(line)["seconds"] for line in lines),
        dice=dice,
        test_images=counts,
    )


def table(results: Sequence[tuple[Result, JointResult]]) -> str:
    """One row per data set and target, the means over data sets, and whether the accepted line holds.

    It is told for the specialists that saw their data set as often as the joint model did, and for all.
    """
    lines = [
        "| modality | data set | target | training images | image-steps | test images | specialist | RCMed small "
        "| difference | RCMed small, presence aside |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result, joint in results:
        steps = f"{result.image_steps:,}"
        if not result.is_even:
            steps += f" (**fewer**: {result.image_steps / result.of_joint:.0%} of {result.of_joint:,})"
        for name, alone in result.dice.items():
            one, aside = joint.dice[name], joint.presence_aside[name]
            lines.append(
                f"| {result.modality} | {result.dataset} | {name} | {result.training_images} | {steps} "
                f"| {result.test_images[name]} | {alone:.3f} | {one:.3f} | {one - alone:+.3f} | {aside:.3f} |"
            )
    if not results:
        return "No specialist is finished.\n"
    even = [(result, joint) for result, joint in results if result.is_even]
    parts = [(even, "with as many image-steps as in the joint training")] if even else []
    if len(even) < len(results):
        parts.append((results, "fewer image-steps included" if even else "all with fewer image-steps"))
    verdicts = []
    for part, kind in parts:
        alone, one, aside = _means(part)
        modalities = {result.modality for result, _ in part}
        lines.append(
            f"| | **mean over {len(part)} of {len(modalities)} modalities** | mean of each one's targets | | {kind} | "
            f"| {alone:.3f} | {one:.3f} | {one - alone:+.3f} | {aside:.3f} |"
        )
        verdict = "holds" if one >= alone - ALLOWED_LOSS else "**does not hold**"
        verdicts.append(
            f"One model's mean >= specialists' mean - {ALLOWED_LOSS}, {kind}: "
            f"{one:.3f} >= {alone - ALLOWED_LOSS:.3f}: {verdict}."
        )
    seconds = sum(result.seconds for result, _ in results)
    shown = sum(result.image_steps for result, _ in results)
    took = f"The specialists' training took {seconds / 3600:.1f} hours of one core, "
    took += f"{1000 * seconds / shown:.0f} ms an image."
    return "\n".join([*lines, "", *verdicts, took]) + "\n"


def _means(results: Sequence[tuple[Result, JointResult]]) -> tuple[float, float, float]:
    """Over data sets, of each the mean of its targets: specialists, the joint model, and this with presence aside."""
    of_each = [
        [float(np.mean(list(each.values()))) for each in (result.dice, joint.dice, joint.presence_aside)]
        for result, joint in results
    ]
    alone, one, aside = np.mean(of_each, axis=0).tolist()
    return alone, one, aside


def _kept(path: Path) -> dict[str, object] | None:
    return json.loads(path.read_text()) if path.exists() else None


def _keep(path: Path, result: Result | JointResult) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(result), indent=2) + "\n")
    partial.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--data-sets", nargs="+", default=DATA_SETS, metavar="NAME[:MODALITY]")
    parser.add_argument("--output", type=Path, default=Path("runs/specialists"))
    parser.add_argument("--results", type=Path, default=RESULTS, help="finished ones, a file each")
    parser.add_argument("--joint-run", type=Path, default=JOINT_RUN, help="what the joint training showed")
    parser.add_argument("--model", default="small")
    parser.add_argument("--steps-share", type=float, default=1.0, help="of the image-steps; less is said in the table")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table-only", action="store_true")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    told = parser.parse_args(arguments)
    torch.set_num_threads(told.threads)
    splits = [read_index(told.root / f"image2label_2d_{split}.json", told.root) for split in ("train", "test")]
    image_steps = joint_image_steps(splits[0], told.joint_run)
    assistant = Assistant.from_pretrained(told.model, "cpu")
    settings = TrainingSettings(image_size=assistant.processor.image_size, threads=told.threads)
    finished = []
    for group in groups_named(told.data_sets, splits[0]):
        train, test = ([t for t in split if (t.dataset, t.modality) == group] for split in splits)
        name, of_joint = f"{group[0]}-{group[1].value}", image_steps[group]
        kept = _kept(told.results / f"{name}.json")
        # The joint run may have gone on since.
        result = None if kept is None else replace(Result(**kept), of_joint=of_joint)  # type: ignore[arg-type]
        wanted = round(of_joint * told.steps_share)
        if not told.table_only and (result is None or result.image_steps < EVEN_SHARE * wanted):
            specialist = Specialist(train, wanted, settings, assistant.processor, told.output / f"{name}-{wanted}")
            result = run_specialist(group, train, test, of_joint, specialist)
            _keep(told.results / f"{name}.json", result)
        if result is None:
            continue
        kept = _kept(told.output / f"{name}-joint.json")
        joint = JointResult(**kept) if kept else None  # type: ignore[arg-type]
        if joint is None or joint.weights_sha256 != assistant.identity.weights_sha256:
            joint = score_joint(test, told.root, assistant)
            _keep(told.output / f"{name}-joint.json", joint)
        finished.append((result, joint))
    print(table(finished))
    if told.write is not None:
        before, _, rest = told.write.read_text().partition(BEGIN)
        told.write.write_text(f"{before}{BEGIN}{table(finished)}{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
