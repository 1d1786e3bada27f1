"""Writes .env.example from the settings classes: `python -m tests.env_example`. A test says when it is out of date."""

import json
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from textwrap import wrap

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ai_service.settings import AiSettings
from alert_service.settings import AlertSettings
from assay.settings import OperationsSettings
from common.settings import ServiceSettings
from external_apis_services.settings import ExternalApisSettings
from local_stack.settings import StackSettings
from log_service.settings import LogSettings
from user_service.settings import UserSettings

FILE = Path(__file__).resolve().parents[1] / ".env.example"
SETTINGS_BY_SERVICE: Mapping[str, type[ServiceSettings]] = {
    "ai_service": AiSettings,
    "user_service": UserSettings,
    "alert_service": AlertSettings,
    "log_service": LogSettings,
    "external_apis_services": ExternalApisSettings,
}
SHARED = "every service, unless its own group says otherwise"
LOCAL_STACK = "the local stack: make run, make dev, make demo"
OPERATIONS = "python -m assay: move, backup, restore"
HEADING = """\
# Every setting there is, with its default. Made by `make env-example` from the settings classes.
#
# A value comes from the first of these that names it: a flag (`python -m ai_service --port 8000`), the environment
# (`PORT=8000`), the file that SETTINGS_FILE names (default: .env in the working directory), the default shown here.
# Each service reads the same names from its own environment: give each its own file or environment where they differ.
# `make run` chooses addresses, folders and secrets itself; what is set here for those reaches only services that are
# started one by one.
"""


def env_example() -> str:
    """Return what the file should hold."""
    groups = [(SHARED, shared_fields())]
    groups += [(service, own_fields(settings)) for service, settings in SETTINGS_BY_SERVICE.items()]
    groups.append((LOCAL_STACK, dict(StackSettings.model_fields)))
    groups.append((OPERATIONS, dict(OperationsSettings.model_fields)))
    return HEADING + "".join(_group(title, fields) for title, fields in groups)


def shared_fields() -> dict[str, FieldInfo]:
    """Return the fields that most services have with the same default."""
    return {
        name: field
        for name, field in ServiceSettings.model_fields.items()
        if sum(_same(settings, name) for settings in SETTINGS_BY_SERVICE.values()) > 1
    }


def own_fields(settings: type[ServiceSettings]) -> dict[str, FieldInfo]:
    """Return the fields of a service that the shared ones do not describe."""
    shared = shared_fields()
    return {
        name: field
        for name, field in settings.model_fields.items()
        if name not in shared or not _same(settings, name)
    }


def _same(settings: type[ServiceSettings], name: str) -> bool:
    return shown_default(settings.model_fields[name]) == shown_default(ServiceSettings.model_fields[name])


def shown_default(field: FieldInfo) -> str:
    """Return a default as it would be written in the file."""
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool | list | dict):
        return json.dumps(value)
    return str(value)


def _group(title: str, fields: Mapping[str, FieldInfo]) -> str:
    lines = [f"\n# ---- {title}"]
    for name, field in fields.items():
        lines += _setting(name, field)
    return "\n".join(lines) + "\n"


def _setting(name: str, field: FieldInfo) -> Iterator[str]:
    for line in wrap(field.description or "", 115):
        yield f"# {line}"
    yield f"#{name.upper()}={shown_default(field)}"


if __name__ == "__main__":
    FILE.write_text(env_example())
