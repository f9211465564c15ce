"""Batch inference, training, scoring, and the next image to annotate; none of it holds up other requests."""

from __future__ import annotations

import logging
import time
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Request
from monailabel.endpoints import scoring as stock_scoring
from monailabel.endpoints import train as stock_train
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType

from monailabel_app.server.routes.access import Admin, Annotator, AnyUser
from monailabel_app.server.routes.serving import Served
from monailabel_app.tasks.batch import BatchRuns
from rcmed.errors import RCMedError

logger = logging.getLogger(__name__)

router = APIRouter()

Params = Annotated[dict[str, Any] | None, Body()]


def _batches(request: Request) -> BatchRuns:
    runs: BatchRuns = request.app.state.batches
    return runs


@router.get("/batch/infer", tags=["Infer"], summary="State of batch inference")
def batch_status(request: Request, user: AnyUser, all: bool = False, check_if_running: bool = False) -> Any:
    """The last run, or all."""
    runs = _batches(request)
    if not runs.tasks or (check_if_running and not runs.is_running):
        raise HTTPException(404, "no batch inference is running" if runs.tasks else "no batch inference was started")
    return runs.tasks if all else runs.tasks[-1]


@router.post("/batch/infer/{model}", tags=["Infer"], summary="Infer over many images")
def batch_run(
    request: Request,
    served: Served,
    user: Admin,
    model: str,
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: Params = None,
    run_sync: bool = False,
) -> Any:
    """Save what is found in each image as a label."""
    if model not in served._infers:
        raise HTTPException(404, f"no model '{model[:40]}'; there are {', '.join(served._infers)}")
    asked = {**(params or {}), "model": model, "images": images.value}
    asked.pop("image", None)
    asked.pop("image_path", None)
    if run_sync:
        return served.batch_infer(asked)
    task = _batches(request).start(asked)
    if task is None:
        raise HTTPException(429, "a batch inference is running; wait for it, or stop it")
    return task


@router.delete("/batch/infer", tags=["Infer"], summary="Stop batch inference")
def batch_stop(request: Request, user: Admin) -> Any:
    """End it after the image in progress."""
    return _batches(request).stop()


@router.get("/train/", tags=["Train"], summary="State of training")
def train_status(user: AnyUser, all: bool = False, check_if_running: bool = False) -> Any:
    """The last training, or all."""
    return stock_train.status(all, check_if_running)


@router.post("/train/", tags=["Train"], summary="Train all")
def train_all(user: Admin, params: Params = None, run_sync: bool = False) -> Any:
    """In a process of its own."""
    return stock_train.run({**(params or {}), "user": user.username}, run_sync)


@router.post("/train/{model}", tags=["Train"], summary="Train")
def train(
    served: Served,
    user: Admin,
    model: str,
    params: Params = None,
    run_sync: bool = False,
    enqueue: bool = False,
) -> Any:
    """In a process of its own."""
    if model not in served._trainers:
        known = ", ".join(served._trainers) or "none"
        raise HTTPException(404, f"no trainer '{model[:40]}'; there are {known}")
    return stock_train.run_model(model, {**(params or {}), "model": model, "user": user.username}, run_sync, enqueue)


@router.delete("/train/", tags=["Train"], summary="Stop training")
def train_stop(user: Admin) -> Any:
    """End the process."""
    return stock_train.stop()


@router.get("/scoring/", tags=["Scoring"], summary="State of scoring")
def scoring_status(user: AnyUser, all: bool = False, check_if_running: bool = False) -> Any:
    """The last scoring, or all."""
    return stock_scoring.status(all, check_if_running)


@router.post("/scoring/", tags=["Scoring"], summary="Score by all methods")
def score_all(user: Annotator, params: Params = None, run_sync: bool = False) -> Any:
    """In a process of its own."""
    return stock_scoring.run(params, run_sync)


@router.post("/scoring/{method}", tags=["Scoring"], summary="Score by one method")
def score(served: Served, user: Annotator, method: str, params: Params = None, run_sync: bool = False) -> Any:
    """In a process of its own."""
    if method not in served._scoring_methods:
        known = ", ".join(served._scoring_methods) or "none"
        raise HTTPException(404, f"no scoring method '{method[:40]}'; there are {known}")
    return stock_scoring.run_method(method, {**(params or {}), "method": method}, run_sync)


@router.delete("/scoring/", tags=["Scoring"], summary="Stop scoring")
def scoring_stop(user: Annotator) -> Any:
    """End the process."""
    return stock_scoring.stop()


@router.post("/activelearning/{strategy}", tags=["ActiveLearning"], summary="The next image to annotate")
def next_sample(served: Served, user: AnyUser, strategy: str, params: Params = None) -> Any:
    """By a strategy; `client_id` or the user's name says to whom it is given."""
    if strategy not in served._strategies:
        raise HTTPException(404, f"no strategy '{strategy[:40]}'; there are {', '.join(served._strategies)}")
    asked = {**(params or {}), "strategy": strategy}
    asked.setdefault("client_id", user.username)
    result: dict[str, Any] = served.next_sample(asked)
    if not result:
        return {}
    store, image = served.datastore(), result["id"]
    given = {**store.get_image_info(image).get("strategy", {})}
    given[strategy] = {"ts": int(time.time()), "client_id": asked["client_id"]}
    try:
        store.update_image_info(image, {"strategy": given})
    except (MONAILabelException, RCMedError, NotImplementedError, OSError) as error:
        logger.warning("to whom %s was given is not kept: %s", image, error)
    return {**result, **store.get_image_info(image)}
