"""The wire requests of 3D Slicer and OHIF against the four tasks, with an assistant whose masks are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from fastapi.testclient import TestClient
from requests_toolbelt import MultipartDecoder

from monailabel_app.tasks.labels import AdvertisedLabels

Make = Callable[..., TestClient]
Stubs = Callable[..., Any]
Blocks = Callable[..., Callable[[Any], Any]]

# What the stub assistant says that its weights know, in its order.
LABELS = AdvertisedLabels(("liver", "spleen", "liver tumor", "optic disc", "retinal vessel", "left kidney"))
SLICER = {"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "slicer"}
OHIF = {
    "result_extension": ".nrrd",
    "result_dtype": "uint8",
    "result_compress": False,
    "restore_label_idx": False,
}


def read_mask(content: bytes, folder: Path) -> sitk.Image:
    path = folder / "mask.nrrd"
    path.write_bytes(content)
    return sitk.ReadImage(str(path))


def slicer(
    client: TestClient, folder: Path, image: str, params: dict[str, Any], model: str = "rcmed"
) -> tuple[sitk.Image, dict[str, Any]]:
    """As 3D Slicer's client: no `output`, so that mask and JSON come back as multipart."""
    reply = client.post(f"/infer/{model}?image={image}", data={"params": json.dumps({**params, **SLICER})})
    assert reply.status_code == 200, reply.text
    parts = MultipartDecoder(reply.content, reply.headers["content-type"]).parts
    assert b'name="params"' in parts[0].headers[b"Content-Disposition"]
    assert b'filename="' in parts[1].headers[b"Content-Disposition"]
    return read_mask(parts[1].content, folder), json.loads(parts[0].text)


def ohif(client: TestClient, folder: Path, image: str, params: dict[str, Any], model: str = "rcmed") -> np.ndarray:
    """As OHIF: the mask's bytes are the whole reply; it is read flat."""
    reply = client.post(f"/infer/{model}?image={image}&output=image", data={"params": json.dumps({**params, **OHIF})})
    assert reply.status_code == 200, reply.text
    header, _, flat = reply.content.partition(b"\n\n")
    assert b"encoding: raw" in header and b"type: uint8" in header
    mask = sitk.GetArrayFromImage(read_mask(reply.content, folder))
    assert np.array_equal(np.frombuffer(flat, np.uint8), mask.ravel())
    return mask


def box(shape: tuple[int, ...], first: tuple[int, int, int], last: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] = True
    return mask


def test_slicer_gets_values_in_order_with_their_names_on_a_fundus_image(client: TestClient, tmp_path: Path) -> None:
    """Stock overwrites `label_names` with the advertised labels, and writes a 2D result transposed."""
    mask, reply = slicer(client, tmp_path, "fundus--eye", {"prompt": "optic disc; retinal vessel"})
    assert reply["label_names"] == {"optic disc": 1, "retinal vessel": 2}
    assert mask.GetSize() == (30, 20, 1) and mask.GetPixelID() == sitk.sitkUInt8
    values = sitk.GetArrayFromImage(mask)
    assert np.array_equal(values == 1, box((1, 20, 30), (0, 3, 4), (1, 8, 9)))
    # Where they overlap the smaller one is seen.
    assert np.array_equal(values > 0, box((1, 20, 30), (0, 3, 4), (1, 8, 9)) | box((1, 20, 30), (0, 7, 0), (1, 9, 30)))


def test_slicer_gets_values_in_order_on_a_volume(client: TestClient, studies: Path, tmp_path: Path) -> None:
    mask, reply = slicer(client, tmp_path, "ct--body", {"prompt": "liver tumor\nliver", "label_prompt": [9]})
    assert reply["label_names"] == {"liver tumor": 1, "liver": 2}
    source = sitk.ReadImage(str(studies / "ct--body.nii.gz"))
    assert mask.GetSize() == source.GetSize() and mask.GetSpacing() == source.GetSpacing()
    assert mask.GetOrigin() == source.GetOrigin() and mask.GetDirection() == source.GetDirection()
    values = sitk.GetArrayFromImage(mask)
    tumour = box((5, 6, 7), (2, 2, 2), (3, 4, 4))
    assert np.array_equal(values == 1, tumour)
    assert np.array_equal(values == 2, box((5, 6, 7), (1, 1, 1), (4, 5, 6)) & ~tumour)


def test_an_absent_target_is_a_mask_of_zeros(client: TestClient, tmp_path: Path) -> None:
    """Stock gives JSON without a file, which crashes 3D Slicer's client."""
    mask, reply = slicer(client, tmp_path, "ct--body", {"prompt": "spleen; liver"})
    assert reply["label_names"] == {"spleen": 1, "liver": 2}
    assert [finding["status"] for finding in reply["findings"]] == ["absent", "found"]
    assert set(np.unique(sitk.GetArrayFromImage(mask))) == {0, 2}
    assert not ohif(client, tmp_path, "ct--body", {"prompt": "spleen"}).any()


def test_words_that_name_nothing_are_422_with_the_reason(client: TestClient, tmp_path: Path) -> None:
    """Stock turns a fault of a task into a bare 500."""
    reply = client.post("/infer/rcmed?image=ct--body", data={"params": json.dumps({"prompt": "florble"})})
    assert reply.status_code == 422
    assert "florble" in reply.json()["detail"]
    # What is understood beside it is answered, and the rest is told.
    _, reply = slicer(client, tmp_path, "ct--body", {"prompt": "liver; florble"})
    assert reply["label_names"] == {"liver": 1}
    assert "florble" in reply["unresolved"][0]


def test_nothing_typed_is_what_is_there(client: TestClient, tmp_path: Path) -> None:
    _, reply = slicer(client, tmp_path, "ct--body", {"prompt": "", "preset": "", "modality": "auto"})
    assert sorted(reply["label_names"]) == ["liver", "liver tumor"]


def test_ohif_gets_the_first_slot_for_a_prompt(client: TestClient, tmp_path: Path) -> None:
    mask = ohif(client, tmp_path, "ct--body", {"prompt": "liver; left kidney"})
    assert np.array_equal(mask == 1, box((5, 6, 7), (1, 1, 1), (4, 5, 6))) and set(np.unique(mask)) == {0, 1}


def test_ohif_gets_the_slot_that_was_ticked(client: TestClient, tmp_path: Path) -> None:
    """OHIF zeroes values of labels that were not ticked."""
    mask = ohif(client, tmp_path, "ct--body", {"prompt": "liver", "label_prompt": [3]})
    assert set(np.unique(mask)) == {0, 3}


def test_ohif_gets_advertised_values_for_classes_and_for_what_is_there(client: TestClient, tmp_path: Path) -> None:
    liver, tumour = LABELS.targets["liver"], LABELS.targets["liver tumor"]
    assert set(np.unique(ohif(client, tmp_path, "ct--body", {"label_prompt": [liver]}))) == {0, liver}
    assert set(np.unique(ohif(client, tmp_path, "ct--body", {}))) == {0, liver, tumour}
    # A vista3d model's Auto run ticks every class; none but those of the image's modality are asked for.
    every = sorted(LABELS.as_dict().values())
    assert set(np.unique(ohif(client, tmp_path, "ct--body", {"label_prompt": every}, "rcmed_vista"))) == {
        0,
        liver,
        tumour,
    }


def test_what_ohif_kept_does_not_leak(client: TestClient, stub: Any, tmp_path: Path) -> None:
    spleen = LABELS.targets["spleen"]
    stale = {"label_prompt": [spleen], "points": [[0, 0, 0]], "point_labels": [1]}
    mask = ohif(client, tmp_path, "ct--body", {"prompt": "liver", **stale})
    assert np.array_equal(mask > 0, box((5, 6, 7), (1, 1, 1), (4, 5, 6)))
    assert stub.asked[-1][0] == ["liver"]


@pytest.fixture
def two_livers(make_stub: Stubs, blocks: Blocks) -> Any:
    def make(image: Any) -> Any:
        return blocks((0, 0, 0), (1, 2, 2))(image) | blocks((3, 3, 3), (5, 6, 7))(image)

    return make_stub(liver=make, liver_tumor=blocks((4, 4, 4), (5, 5, 5)))


@pytest.mark.slow
def test_vista_keeps_what_the_points_touch_and_forgets_points_of_another_class(
    make_client: Make, two_livers: Any, tmp_path: Path
) -> None:
    client = make_client(two_livers)
    liver, tumour = LABELS.targets["liver"], LABELS.targets["liver tumor"]
    points = {"points": [[4, 4, 4], [0, 0, 0]], "point_labels": [1, 0]}
    mask = ohif(client, tmp_path, "ct--body", {"label_prompt": [liver], **points}, "rcmed_vista")
    assert np.array_equal(mask == liver, box((5, 6, 7), (3, 3, 3), (5, 6, 7)))
    # Class Prompts for the liver tumour, with the points still in the saved options.
    mask = ohif(client, tmp_path, "ct--body", {"label_prompt": [tumour], **points}, "rcmed_vista")
    assert np.array_equal(mask == tumour, box((5, 6, 7), (4, 4, 4), (5, 5, 5)))


def test_smart_edit_takes_the_segments_name_for_the_prompt(make_client: Make, two_livers: Any, tmp_path: Path) -> None:
    client = make_client(two_livers)
    params: dict[str, Any] = {"label": "Liver", "foreground": [], "background": []}
    mask, reply = slicer(client, tmp_path, "ct--body", params, "rcmed_edit")
    assert reply["label_names"] == {"Liver": 1}
    assert np.count_nonzero(sitk.GetArrayFromImage(mask) == 1) == 4 + 24
    mask, _ = slicer(client, tmp_path, "ct--body", {**params, "background": [[0, 0, 0]]}, "rcmed_edit")
    assert np.count_nonzero(sitk.GetArrayFromImage(mask)) == 24
    mask, _ = slicer(client, tmp_path, "ct--body", {**params, "roi": [0, 1, 0, 1, 0, 1]}, "rcmed_edit")
    assert np.count_nonzero(sitk.GetArrayFromImage(mask)) == 4


def test_a_click_never_erases(make_client: Make, two_livers: Any, tmp_path: Path) -> None:
    """Slicer replaces the segment by what comes back."""
    client = make_client(two_livers)
    beside = {"label": "liver", "foreground": [[6, 0, 0]], "background": []}
    mask, reply = slicer(client, tmp_path, "ct--body", beside, "rcmed_edit")
    assert np.count_nonzero(sitk.GetArrayFromImage(mask) == 1) == 4 + 24 == reply["findings"][0]["voxels"]
    assert "no part of `liver` lies at the clicks" in reply["unresolved"][0]
    for params in ({**beside, "label": "spleen"}, {**OHIF, "foreground": [[6, 0, 0]]}):
        answer = client.post("/infer/rcmed_edit?image=ct--body", data={"params": json.dumps(params)})
        assert answer.status_code == 422 and "the segment stays as it is" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["Segment_1", "Segment"])
def test_a_segment_that_nobody_named_is_no_word(make_client: Make, two_livers: Any, tmp_path: Path, name: str) -> None:
    client = make_client(two_livers)
    asked = {"params": json.dumps({"label": name, "foreground": [], "background": []})}
    reply = client.post("/infer/rcmed_edit?image=ct--body", data=asked)
    assert reply.status_code == 422 and "name the segment after its target" in reply.json()["detail"]
    params = {"label": name, "foreground": [[4, 4, 4]], "background": []}
    mask, _ = slicer(client, tmp_path, "ct--body", params, "rcmed_edit")
    assert np.count_nonzero(sitk.GetArrayFromImage(mask)) == 1, "the most specific thing at the click"


def test_what_is_said_is_said_of_the_part_that_is_shown(make_client: Make, two_livers: Any, tmp_path: Path) -> None:
    client = make_client(two_livers)
    params = {"label": "liver", "foreground": [[4, 4, 4]], "background": []}
    (part,) = slicer(client, tmp_path, "ct--body", params, "rcmed_edit")[1]["findings"]
    without = {**params, "foreground": [], "background": [[4, 4, 4]]}
    (rest,) = slicer(client, tmp_path, "ct--body", without, "rcmed_edit")[1]["findings"]
    assert (part["voxels"], rest["voxels"]) == (24, 4)
    assert part["description"] and rest["description"] and part["description"] != rest["description"]


def test_clicks_without_a_name_give_the_most_specific_thing_there(
    make_client: Make, two_livers: Any, tmp_path: Path
) -> None:
    """OHIF's deepgrow sends no name."""
    client = make_client(two_livers)
    mask = ohif(client, tmp_path, "ct--body", {"foreground": [[4, 4, 4]], "background": []}, "rcmed_edit")
    assert np.array_equal(mask == 1, box((5, 6, 7), (4, 4, 4), (5, 5, 5)))
    mask = ohif(client, tmp_path, "ct--body", {"foreground": [[3, 3, 3]], "background": []}, "rcmed_edit")
    assert np.array_equal(mask == 1, box((5, 6, 7), (3, 3, 3), (5, 6, 7)))
    reply = client.post("/infer/rcmed_edit?image=ct--body", data={"params": json.dumps(OHIF)})
    assert reply.status_code == 422 and "name the segment" in reply.json()["detail"]


def test_weights_that_take_hints_are_given_the_clicks(
    make_client: Make, make_stub: Stubs, blocks: Blocks, tmp_path: Path
) -> None:
    assistant = make_stub(takes_hints=True, liver=blocks((0, 0, 0), (5, 6, 7)))
    params = {"label": "liver", "foreground": [[6, 5, 4]], "background": [[0, 1, 4]]}
    slicer(make_client(assistant), tmp_path, "ct--body", params, "rcmed_edit")
    words, hints = assistant.asked[-1]
    assert words == ["liver"] and list(hints) == [4]
    assert hints[4].inside == ((5.0, 6.0),) and hints[4].outside == ((1.0, 0.0),)


def test_weights_that_need_no_name_are_asked_for_what_is_clicked(
    make_client: Make, make_stub: Stubs, blocks: Blocks, tmp_path: Path
) -> None:
    assistant = make_stub(takes_hints=True, liver=blocks((0, 0, 0), (5, 6, 7)))
    assistant.takes_hints_without_name = True
    client = make_client(assistant)
    ohif(client, tmp_path, "ct--body", {"foreground": [[6, 5, 4]], "background": []}, "rcmed_edit")
    words, hints = assistant.asked[-1]
    assert words == [] and hints[4].inside == ((5.0, 6.0),)


def test_slices_by_themselves(make_client: Make, make_stub: Stubs, blocks: Blocks, tmp_path: Path) -> None:
    seen = []

    def make(image: Any) -> Any:
        seen.append(image.is_volume)
        return blocks((0, 0, 0), (1, 1, 1))(image)

    client = make_client(make_stub(liver=make))
    slicer(client, tmp_path, "ct--body", {"prompt": "liver"}, "rcmed")
    slicer(client, tmp_path, "ct--body", {"prompt": "liver"}, "rcmed_2d")
    assert seen == [True, False]


def test_a_file_that_does_not_say_its_modality(make_client: Make, studies: Path, tmp_path: Path) -> None:
    (studies / "ct--body.nii.gz").rename(studies / "body.nii.gz")
    client = make_client()
    reply = client.post("/infer/rcmed?image=body", data={"params": '{"prompt": "liver"}'})
    assert reply.status_code == 422 and "modality" in reply.json()["detail"]
    _, answer = slicer(client, tmp_path, "body", {"prompt": "liver", "modality": "ct"})
    assert answer["modality"] == "ct"
    _, answer = slicer(make_client(modality="mr"), tmp_path, "body", {"prompt": "liver"})
    assert answer["modality"] == "mr"


def test_an_image_is_read_once(
    client: TestClient, studies: Path, volume_writer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from monailabel_app.tasks import resident_assistant as resident

    read, real = [], resident.read_images
    monkeypatch.setattr(resident, "read_images", lambda *given: read.append(given) or real(*given))
    for prompt in ("liver", "spleen", "liver tumor"):
        asked = {"params": json.dumps({"prompt": prompt})}
        assert client.post("/infer/rcmed?image=ct--body&output=json", data=asked).status_code == 200
    assert len(read) == 1
    volume_writer(studies / "ct--body.nii.gz", (3, 4, 5))
    client.post("/infer/rcmed?image=ct--body&output=json", data={"params": '{"prompt": "liver"}'})
    assert len(read) == 2


def test_no_result_file_is_left_behind(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    slicer(client, tmp_path, "ct--body", {"prompt": "liver"})
    with (tmp_path / "studies" / "ct--body.nii.gz").open("rb") as file:
        client.post("/infer/rcmed", data={"params": '{"prompt": "liver"}'}, files={"file": ("ct--up.nii.gz", file)})
    assert list(folder.iterdir()) == []
