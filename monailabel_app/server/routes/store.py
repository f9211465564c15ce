"""/datastore: images and labels."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, File, Form, HTTPException, UploadFile
from fastapi.responses import FileResponse, Response

from monailabel_app.main import MODEL_IDENTITY, RCMedApp
from monailabel_app.names import require_id, require_tag
from monailabel_app.server.routes.access import Admin, Annotator, AnyUser
from monailabel_app.server.routes.serving import Served, json_object, received
from rcmed.errors import InputError

router = APIRouter(prefix="/datastore", tags=["Datastore"])

FINAL = "final"
ANY_TYPE = "application/octet-stream"
CHECKSUMS = ("SHA256", "SHA512", "MD5")


@router.get("/", summary="All images and labels")
def content(served: Served, user: AnyUser, output: Literal["train", "stats", "all"] = "stats") -> Any:
    """Counts, pairs for training, or everything."""
    store = served.datastore()
    if output == "all":
        return store.json()
    return store.datalist() if output == "train" else store.status()


@router.put("/", include_in_schema=False)
@router.put("/image", summary="Upload an image")
def add_image(
    served: Served,
    user: Annotator,
    file: Annotated[UploadFile, File()],
    image: str = "",
    params: Annotated[str, Form()] = "{}",
) -> dict[str, str]:
    """Add an image under an id, or under its file's name."""
    info = {**json_object(params), "user": user.username}
    if image:
        _id(image)
    with received(file) as path:
        return {"image": served.datastore().add_image(image, str(path), info)}


@router.delete("/", include_in_schema=False)
@router.delete("/image", summary="Remove an image with its labels")
def remove_image(served: Served, user: Admin, id: str) -> dict[str, Any]:
    """Remove an image."""
    served.datastore().remove_image(_image_id(served, id))
    return {}


@router.head("/image", summary="Check if an image is there", response_model=None)
def check_image(served: Served, user: AnyUser, image: str, check_sum: str | None = None) -> dict[str, Any]:
    """404 where it is not, or its checksum ("SHA256:..." or the bare SHA-256) is another."""
    path = Path(served.datastore().get_image_uri(_image_id(served, image)))
    if check_sum:
        if not path.is_file():
            raise HTTPException(404, f"image '{image}' is no single file, so nobody has its checksum")
        algorithm, _, digest = check_sum.rpartition(":")
        algorithm = algorithm or CHECKSUMS[0]
        if algorithm not in CHECKSUMS:
            raise HTTPException(400, f"check_sum: one of {', '.join(CHECKSUMS)}")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
        if digest != found:
            raise HTTPException(404, "the image has another checksum")
    return {}


@router.get("/image", summary="Download an image")
def get_image(served: Served, user: AnyUser, image: str) -> Response:
    """The file as it is; a series of a DICOM store as one NRRD, for viewers that open no folders of others."""
    path = Path(served.datastore().get_image_uri(_image_id(served, image)))
    if path.is_file():
        return FileResponse(path, media_type=ANY_TYPE, filename=path.name)
    content = served.datastore().get_image(image).getvalue()
    shown = {"Content-Disposition": f'attachment; filename="{image}.nrrd"'}
    return Response(content, media_type=ANY_TYPE, headers=shown)


@router.get("/image/info", summary="What is known of an image")
def image_info(served: Served, user: AnyUser, image: str) -> Any:
    """A dictionary."""
    _image_id(served, image)
    return served.datastore().get_image_info(image)


@router.put("/image/info", summary="Add to what is known of an image")
def update_image_info(served: Served, user: Annotator, image: str, info: Annotated[str, Form()] = "{}") -> Any:
    """Merge a dictionary."""
    _image_id(served, image)
    return served.datastore().update_image_info(image, {**json_object(info, "info"), "user": user.username})


@router.put("/label", summary="Submit a label")
def save_label(
    served: Served,
    user: Annotator,
    image: str,
    label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}",
    tag: str = FINAL,
) -> dict[str, Any]:
    """Keep a label map; `params.label_info` names its values."""
    tag = _tag(tag or FINAL)
    info = json_object(params)
    if user.username != "anonymous":
        info["user"] = user.username
    _image_id(served, image)
    helped = served.datastore().get_image_info(image).get(MODEL_IDENTITY)
    if helped is not None:
        info.setdefault(MODEL_IDENTITY, helped)
    with received(label) as path:
        label_id = served.datastore().save_label(image, str(path), tag, info)
    return {**(served.on_save_label(image, label_id) or {}), "image": image, "label": label_id}


@router.delete("/label", summary="Remove a label")
def remove_label(served: Served, user: Admin, id: str, tag: str) -> dict[str, Any]:
    """Remove the label of an image with this tag."""
    served.datastore().remove_label(_id(id, "label"), _tag(tag))
    return {}


@router.head("/label", summary="Check if a label is there", response_model=None)
def check_label(
    served: Served, user: AnyUser, tag: str, label: str | None = None, image: str | None = None
) -> dict[str, Any]:
    """404 where it is not."""
    _label_path(served, label or image or "", tag)
    return {}


@router.get("/label", summary="Download a label")
def get_label(served: Served, user: AnyUser, label: str, tag: str) -> FileResponse:
    """The file as it is."""
    path = _label_path(served, label, tag)
    return FileResponse(path, media_type=ANY_TYPE, filename=path.name)


@router.get("/label/info", summary="What is known of a label")
def label_info(served: Served, user: AnyUser, label: str, tag: str) -> Any:
    """A dictionary."""
    return served.datastore().get_label_info(_id(label, "label"), _tag(tag))


@router.put("/label/info", summary="Add to what is known of a label")
def update_label_info(
    served: Served, user: Annotator, label: str, tag: str, info: Annotated[str, Form()] = "{}"
) -> Any:
    """Merge a dictionary."""
    content = {**json_object(info, "info"), "user": user.username}
    return served.datastore().update_label_info(_id(label, "label"), _tag(tag), content)


@router.put("/updatelabelinfo", include_in_schema=False)
def update_label_info_of_old(
    served: Served, user: Annotator, label: str, tag: str, params: Annotated[str, Form()] = "{}"
) -> Any:
    """The older name of the same."""
    return update_label_info(served, user, label, tag, params)


@router.get("/dataset", summary="All images with a final label, as ZIP")
def dataset(served: Served, user: Annotator, later: BackgroundTasks, limit_cases: int | None = None) -> FileResponse:
    """Images, labels and what is known of them."""
    try:
        path = Path(served.datastore().get_dataset_archive(limit_cases))
    except AssertionError:
        raise HTTPException(404, "no image has a final label yet") from None
    later.add_task(path.unlink, missing_ok=True)
    return FileResponse(path, media_type="application/zip", filename="dataset.zip")


def _id(value: str, what: str = "image") -> str:
    try:
        return require_id(value, what)
    except InputError as error:
        raise HTTPException(400, str(error)) from None


def _tag(value: str) -> str:
    try:
        return require_tag(value)
    except InputError as error:
        raise HTTPException(400, str(error)) from None


def _image_id(served: RCMedApp, image: str) -> str:
    if not served.datastore().get_image_uri(_id(image)):
        raise HTTPException(404, f"image '{image}' is not in the store")
    return image


def _label_path(served: RCMedApp, label: str, tag: str) -> Path:
    uri = served.datastore().get_label_uri(_id(label, "label"), _tag(tag))
    if not uri or not Path(uri).is_file():
        raise HTTPException(404, f"label '{label}' with tag '{tag}' is not in the store")
    return Path(uri)
