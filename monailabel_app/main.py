"""The MONAI Label app: one resident assistant behind all tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException, MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from monailabel_app.app_folder import SETTINGS
from monailabel_app.datastores.opening import open_datastore
from monailabel_app.names import require_id
from monailabel_app.settings import AnnotateSettings
from monailabel_app.tasks.batch import BatchFind
from monailabel_app.tasks.collecting import modality_in
from monailabel_app.tasks.infer import make_tasks
from monailabel_app.tasks.resident_assistant import FindsTargets, ResidentAssistant
from monailabel_app.tasks.scoring import scoring_methods
from monailabel_app.tasks.served_version import ServedAssistant
from monailabel_app.tasks.strategy import strategies
from monailabel_app.tasks.train import trainers
from monailabel_app.upload_sessions import ExpiringSessions
from rcmed.errors import ConfigurationError
from rcmed.modality import Modality
from rcmed.readers import modality_from_name
from rcmed.site_learning.versions import VersionStore

logger = logging.getLogger(__name__)

MEGABYTE = 2**20
LEARNING = "learning"
"""Folder of the state directory: corrections, versions, leases."""
MODEL_IDENTITY = "model_identity"
"""Of an image's record: the model that a viewer asked about it last."""


class RCMedApp(MONAILabelApp):  # type: ignore[misc]
    """Serves `rcmed.Assistant` to 3D Slicer and OHIF.

    Nothing is fetched from a network, at start or later; the weights are those of the package or of a folder.
    """

    def __init__(
        self, app_dir: str, studies: str, conf: Mapping[str, str] | None = None, assistant: FindsTargets | None = None
    ) -> None:
        """Open the store and load the model.

        Args:
            app_dir: the generated folder; its `settings.json` holds the settings, defaults where it is missing.
            studies: a folder of images, or the address of a DICOMweb server.
            conf: of MONAI Label's own start: `model`, `device`, `modality` win over the settings.
            assistant: in place of the one that the settings name; it can't learn.
        """
        saved = Path(app_dir) / SETTINGS
        settings = AnnotateSettings.load(saved) if saved.exists() else AnnotateSettings.of(state=Path(app_dir).parent)
        given = {key: conf[key] for key in ("model", "device", "modality") if conf and conf.get(key)}
        if given:
            settings = AnnotateSettings.of(**{**settings.model_dump(), **given})
        self.settings = settings
        self._served: ServedAssistant | None = None
        current: Callable[[], FindsTargets]
        if assistant is not None:
            current = lambda: assistant  # noqa: E731
        else:
            state = settings.state.resolve() / LEARNING
            self._served = ServedAssistant(state, settings.model, settings.device, settings.cache_megabytes * MEGABYTE)
            current = self._served.current
        self.resident = ResidentAssistant(current, settings.image_cache_megabytes * MEGABYTE)
        asked = current()
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf or {}),
            name="RCMed",
            description=f"{asked.identity.name}: medical images asked in words. Research use only.",
            version=asked.identity.version,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """The four tasks."""
        return make_tasks(self.resident, self.settings.modality)

    def init_datastore(self) -> Datastore:
        """The store of the studies."""
        return open_datastore(self.studies, self.settings.state.resolve())

    def init_trainers(self) -> dict[str, TrainTask]:
        """One that learns from what was submitted."""
        if self._served is None:
            return {}
        return trainers(self._served, references=self.settings.references, modality_of=self._modality_of)

    def init_strategies(self) -> dict[str, Strategy]:
        """Which image comes next."""
        if self._served is None:
            stock: dict[str, Strategy] = super().init_strategies()
            return stock
        return strategies(self._served, modality_of=self._modality_of)

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """How unsure the served weights are, and how far a person's label is from their answer."""
        return scoring_methods(self._served, modality_of=self._modality_of) if self._served else {}

    @property
    def versions(self) -> VersionStore | None:
        """The weights that were served so far; None where they can't learn."""
        return self._served.versions if self._served else None

    def _modality_of(self, image_id: str, info: Mapping[str, Any]) -> Modality | None:
        """What the image's record tells; of a file whose name does not say it either, what the settings tell."""
        modality = modality_in(image_id, info)
        if modality is not None or self.settings.modality is None or "SeriesInstanceUID" in info:
            return modality
        try:
            return modality_from_name(Path(image_id))
        except ConfigurationError:
            return self.settings.modality

    def init_batch_infer(self) -> Callable[..., Any]:
        """Batch inference that also runs on a CPU."""
        return BatchFind()

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run a task on an image of the store, or on a file that the server itself received.

        Args:
            request: `model`; `image`, an id of the store, which is never taken for a path; `image_path`, set by the
                server alone for an upload or a session; `save_label` with `label_tag`; the task's params.
        Returns:
            `file`: path of the label map, `label`: the same or the saved label's id, `params`: the task's JSON.
        Raises:
            MONAILabelException: no such model or image.
            InputError: the question or the image can't be used.
        """
        model = str(request.get("model") or "")
        task = self._infers.get(model)
        if task is None:
            raise MONAILabelException(
                MONAILabelError.INVALID_INPUT,
                f"model '{model[:40]}' is not served; there are {', '.join(self._infers)}",
            )
        store = datastore or self.datastore()
        asked = dict(request)
        received = asked.pop("image_path", None)
        image_id = "" if received else require_id(str(request.get("image") or ""), "image")
        if received:
            asked["image"] = str(received)
        else:
            asked["image"] = store.get_image_uri(image_id)
            if not asked["image"]:
                raise ImageNotFoundException(f"image '{image_id}' is not in the store")
            asked["image_info"] = store.get_image_info(image_id)
        file, reply = task(asked)
        label = file
        tag = str(
            getattr(request.get("label_tag"), "value", request.get("label_tag") or DefaultLabelTag.ORIGINAL.value)
        )
        if image_id and not request.get("save_label"):
            # What is submitted from now on was not drawn by a person alone.
            store.update_image_info(image_id, {MODEL_IDENTITY: asdict(self.resident.assistant.identity)})
        if request.get("save_label") and image_id:
            names = [{"name": name, "idx": value} for name, value in reply["label_names"].items()]
            try:
                label = store.save_label(image_id, file, tag, {"model": model, "params": reply, "label_info": names})
            finally:
                Path(file).unlink(missing_ok=True)
        return {"label": label, "tag": tag, "file": file, "params": reply}

    def batch_infer(self, request: Mapping[str, Any], datastore: Datastore | None = None, **options: Any) -> Any:
        """Run a task on many images; see `BatchFind`."""
        return self._batch_infer(request, datastore or self.datastore(), self.infer, **options)

    def on_init_complete(self) -> None:
        """Remove sessions that ended while the server was off; later ones are removed by the server."""
        self.cleanup_sessions()

    def cleanup_sessions(self) -> None:
        """Remove sessions that are expired, whether or not this process made them."""
        if self._sessions is not None:
            count = self._sessions.remove_expired()
            logger.info("sessions removed: %d", count)

    def _load_sessions(self, load: bool = False) -> ExpiringSessions | None:
        folder = self.settings.state.resolve() / "sessions"
        return ExpiringSessions(folder, round(self.settings.session_minutes * 60)) if load else None

    def _download_dcmqi_tools(self) -> None:
        """Not needed: SEG is written by `dicom_bridge.results`."""
