"""The secrets that the services of one stack show each other: made once, kept in a file only this user can read."""

import secrets

from local_stack.files import StackFiles, write_private

OF_SERVICES = (
    "SIGNING_KEY_PASSPHRASE",
    "AI_SERVICE_SECRET",
    "ALERT_SERVICE_SECRET",
    "LOG_SERVICE_SECRET",
    "EXTERNAL_APIS_SERVICE_SECRET",
    "OPERATOR_SECRET",
)
OF_STORES = (
    "POSTGRESQL_PASSWORD",
    "VALKEY_PASSWORD",
    "USER_SERVICE_DATABASE_PASSWORD",
    "LOG_SERVICE_DATABASE_PASSWORD",
    "ALERT_SERVICE_DATABASE_PASSWORD",
    "AI_SERVICE_DATABASE_PASSWORD",
)
NAMES = (*OF_SERVICES, *OF_STORES)
_HEADING = (
    "# Made by the local stack for this machine alone. With another passphrase no saved signing key opens.\n"
)


def load_or_make(files: StackFiles) -> dict[str, str]:
    """Return every secret by its name; those that are missing are made and kept."""
    found = kept(files)
    made = {name: found.get(name) or secrets.token_urlsafe(36) for name in NAMES}
    if made != found:
        lines = [f"{name}={value}\n" for name, value in made.items()]
        write_private(files.secrets, _HEADING + "".join(lines))
    return made


def kept(files: StackFiles) -> dict[str, str]:
    """Return the secrets that are there by their names; nothing is made."""
    return parsed(files.secrets.read_text()) if files.secrets.exists() else {}


def parsed(text: str) -> dict[str, str]:
    """Return the secrets that such a file says."""
    lines = (line.partition("=") for line in text.splitlines())
    return {name: value for name, _, value in lines if name in NAMES}
