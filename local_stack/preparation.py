"""What has to be there before the services start: a trained model, and location data unless places are made up."""

import subprocess
import sys

from local_stack.child import PROJECT
from local_stack.errors import StackError
from local_stack.files import StackFiles
from local_stack.settings import GeoProvider

PUBLIC = 0o022  # location data is no secret, and containers read it as another user


def prepare(files: StackFiles, *, geoip_provider: GeoProvider) -> None:
    """Make what is missing; raises `StackError` when that fails."""
    provide_model(files)
    if geoip_provider is GeoProvider.DATABASE:
        provide_locations(files)


def provide_model(files: StackFiles, *options: str) -> None:
    """Train a model, unless there is one that fits the features of today; `options` go to the training."""
    _run(
        "The model could not be trained.",
        "ai_service.ml.training",
        "--if-missing",
        "--models-dir",
        str(files.models),
        *options,
    )


def provide_locations(files: StackFiles) -> None:
    """Fetch the pinned location data, unless it is there."""
    _run(
        "The location data is not there. To start without it, with made-up places: GEOIP_PROVIDER=mock make run",
        "external_apis_services.geoip.download",
        "--directory",
        str(files.geoip),
        umask=PUBLIC,
    )


def _run(failure: str, module: str, *arguments: str, umask: int = -1) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=PROJECT, check=False, umask=umask
    )
    if finished.returncode != 0:
        raise StackError(failure)
