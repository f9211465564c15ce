"""The text of a conversation (Vicuna v1, as the published RCMed uses it)."""

from __future__ import annotations

from rcmed.modality import Modality

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
SPECIAL_TOKENS = ("<im_start>", "<im_end>", "<bbox>", "<point>", "[SEG]", "<p>", "</p>")
BEFORE_IMAGE = SYSTEM + " USER: The <im_start>"
AFTER_IMAGE = "<im_end> provides an overview of the picture.\n"
SEGMENTATION_MARK = "[SEG]"
# What is asked for where a user points at something and names nothing.
UNNAMED = "this"

_MODALITY_WORDS = {
    Modality.MR: "magnetic resonance",
    Modality.CT: "computed tomography",
    Modality.X_RAY: "X-Ray",
}


def modality_words(modality: Modality) -> str:
    """How a modality is called in an instruction."""
    return _MODALITY_WORDS.get(modality, modality.value)


def question(names: tuple[str, ...] | list[str], modality: Modality) -> str:
    """The user's turn behind the image."""
    return f"Please segment {', '.join(names)} in this {modality_words(modality)} image. "


def answer(names: tuple[str, ...] | list[str], modality: Modality) -> str:
    """The assistant's turn, with a `[SEG]` behind each name."""
    phrases = [f"<p> {name} </p> {SEGMENTATION_MARK}" for name in names]
    listed = phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
    return f"{_opening(modality)} {listed}."


def turns_of(names: tuple[str, ...] | list[str], modality: Modality, caption: str = "") -> tuple[str, str]:
    """The user's turn behind the image up to the assistant's name, and what the assistant then says.

    Args:
        names: of targets, at least one.
        modality: of the image.
        caption: a description, said before the answer.
    """
    return question(names, modality) + "ASSISTANT:", f"{caption} {answer(names, modality)}".strip()


def _opening(modality: Modality) -> str:
    return f"This is a <p> {modality_words(modality)} </p> image. The image contains"


def open_answer(modality: Modality) -> str:
    """Question and answer for whatever is there, up to the first name: the model writes the rest."""
    return f"{question(['everything'], modality)}ASSISTANT: {_opening(modality)} <p>"


def prompt_to_seg(name: str, modality: Modality) -> str:
    """Question and answer for one target, up to the position that predicts its `[SEG]`.

    One target to a sequence: so a target's mask does not depend on which other targets were asked.
    """
    return question([name], modality) + "ASSISTANT: " + answer([name], modality).split(f" {SEGMENTATION_MARK}")[0]
