"""Operators of a running stack's platform: made on the machine itself, then logged in through the real API."""

import json
import secrets
import subprocess
import sys

from local_stack import service_secrets
from local_stack.accounts import LoginRefusedError, join, log_in
from local_stack.child import PROJECT
from local_stack.errors import StackError
from local_stack.files import StackFiles, write_private
from local_stack.ownership import RunningStack, is_owned
from local_stack.parts import stack_parts
from local_stack.settings import GeoProvider, StackSettings, inherited_environment

FIRST_OPERATOR = "operator@assay.example"
COMMAND_TIMEOUT_S = 180


def operator_token(settings: StackSettings, *, email: str) -> str:
    """Return an access token of the operator with this address, who is made if there is none; raises `StackError`."""
    files = StackFiles(settings.var_dir.resolve())
    running = RunningStack.read(files) if is_owned(files) else None
    if running is None or not running.ready:
        raise StackError(f"No stack that uses {files.root} is ready. Start one: make run")
    user_service = running.parts["user_service"].url
    passwords = _kept(files)
    if email in passwords:
        try:
            return log_in(user_service, email=email, password=passwords[email])
        except LoginRefusedError:
            pass  # they never joined, or the accounts were deleted and this file was not
    invitation = _invite(settings, files, email, database_url=running.databases["user_service"])
    password = secrets.token_urlsafe(18)
    write_private(files.operators, json.dumps({**passwords, email: password}, indent=2) + "\n")
    return join(user_service, invitation=invitation, password=password)


def _kept(files: StackFiles) -> dict[str, str]:
    return dict(json.loads(files.operators.read_text())) if files.operators.exists() else {}


def _invite(settings: StackSettings, files: StackFiles, email: str, *, database_url: str) -> str:
    """Make an operator with user_service's own command and return the token they join with; raises `StackError`."""
    stack_secrets = service_secrets.load_or_make(files)
    parts = stack_parts(settings, stack_secrets, geoip_provider=GeoProvider.MOCK)
    environment = next(part.environment for part in parts if part.name == "user_service")
    done = subprocess.run(
        [sys.executable, "-m", "user_service.operators", "invite", "--email", email],
        cwd=PROJECT,
        env={**inherited_environment(), **environment, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise StackError(f"{email} was not made an operator:", details=done.stderr.splitlines()[-5:])
    last = done.stdout.splitlines()[-1]
    if " " in last:  # a sentence: they have joined
        raise StackError(
            f"{email} is an operator, whose password is not kept here or needs a code beside it."
        )
    return last
