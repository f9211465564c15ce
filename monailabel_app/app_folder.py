"""The small app folder from which MONAI Label loads the app class, and the environment that it reads at its import.

MONAI Label's loader takes a folder with a `main.py`, and its child processes (training, scoring) load the same folder
again from what the environment says. It lies in the state folder, so that nothing is written into the package.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from monailabel_app.settings import AnnotateSettings

SETTINGS = "settings.json"
MAIN = '''"""Made by `rcmed annotate`: where MONAI Label finds the app."""

from monailabel_app.main import RCMedApp

__all__ = ["RCMedApp"]
'''


def write_app_folder(settings: AnnotateSettings) -> Path:
    """Write `<state>/app`.

    Returns:
        the folder, absolute.
    """
    folder = settings.state.resolve() / "app"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.py").write_text(MAIN)
    settings.save(folder / SETTINGS)
    return folder


def studies_path(settings: AnnotateSettings) -> str:
    """The studies as MONAI Label is told: an absolute folder, or an address without a slash at its end."""
    return settings.studies.rstrip("/") if settings.is_remote else str(Path(settings.studies).resolve())


def set_environment(settings: AnnotateSettings, folder: Path) -> None:
    """Tell MONAI Label, in this process and in those that it starts. Call it before or after its import."""
    variables: dict[str, object] = {
        "MONAI_LABEL_APP_DIR": str(folder),
        "MONAI_LABEL_STUDIES": studies_path(settings),
        "MONAI_LABEL_APP_CONF": {},
        "MONAI_LABEL_SERVER_PORT": settings.port,
        "MONAI_LABEL_SESSIONS": True,
        "MONAI_LABEL_SESSION_PATH": str(settings.state.resolve() / "sessions"),
        "MONAI_LABEL_SESSION_EXPIRY": round(settings.session_minutes * 60),
        # The server's own authentication takes its place.
        "MONAI_LABEL_AUTH_ENABLE": False,
        # Scoring starts a process each time a sample is asked for.
        "MONAI_LABEL_AUTO_UPDATE_SCORING": False,
        "MONAI_LABEL_TRACKING_ENABLED": False,
        "MONAI_LABEL_INFER_CONCURRENCY": -1,
        "MONAI_LABEL_DICOMWEB_CONVERT_TO_NIFTI": False,
        "MONAI_LABEL_DICOMWEB_SEARCH_FILTER": {},
    }
    for name, value in variables.items():
        os.environ[name] = value if isinstance(value, str) else json.dumps(value)
    os.environ.setdefault("PYTHONPATH", "")
    # Reports of use and looks for newer versions have no place in a server of patients' images.
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "1")
    from monailabel.config import settings as monailabel_settings

    for name, value in variables.items():
        setattr(monailabel_settings, name, value)
