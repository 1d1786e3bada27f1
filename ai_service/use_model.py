"""Chooses the model that scores, for every process: `python -m ai_service.use_model 20261101-1200`, or `--list`."""

from typing import Annotated

import typer
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from ai_service.bootstrap import MIGRATIONS
from ai_service.ml.choices import choose, latest_choice
from ai_service.ml.saved import ModelChoice, saved_models
from ai_service.scoring.loading import load_scoring
from ai_service.settings import AiSettings
from common.clock import epoch_ms
from common.db import migrate, writing_engine
from common.errors import StartupError
from common.logging import configure_logging
from common.settings import load_settings


def main(
    version: Annotated[str, typer.Argument(help="VERSION, or NAME/VERSION where several have it")] = "",
    *,
    listing: Annotated[bool, typer.Option("--list", help="show the saved models")] = False,
) -> None:
    """Have every process score with a saved model within seconds, without a restart."""
    configure_logging(service="ai_service", level="error", json_lines=True)
    try:
        settings = load_settings(AiSettings)
        migrate(settings.database_url, migrations=MIGRATIONS)
        engine = writing_engine(settings.database_url)
        try:
            typer.echo(_listed(settings, engine) if listing else _chosen(settings, engine, version))
        finally:
            engine.dispose()
    except ValidationError as error:
        names = ", ".join(".".join(map(str, found["loc"])).upper() or "settings" for found in error.errors())
        _end(f"These settings are wrong: {names}")
    except StartupError as error:
        _end(str(error))
    except SQLAlchemyError as error:
        _end(f"The database does not answer: {type(error).__name__}")


def _listed(settings: AiSettings, engine: Engine) -> str:
    with engine.connect() as connection:
        chosen = latest_choice(connection)
    lines = [
        f"{'*' if each == chosen else ' '} {each.name}/{each.version}"
        for each in saved_models(settings.models_dir)
    ]
    if chosen is None:
        lines.append("None was chosen: each process uses the one that current.json of MODELS_DIR names.")
    return "\n".join(lines)


def _chosen(settings: AiSettings, engine: Engine, version: str) -> str:
    """Choose a model that loads here with the rules in use; raises `StartupError`."""
    choice = _found(settings, version)
    load_scoring(settings.models_dir, settings.rules_file, choice)
    with engine.begin() as connection:
        choose(connection, choice, now_ms=epoch_ms())
    return f"Every process scores with {choice.name}/{choice.version} within seconds."


def _found(settings: AiSettings, version: str) -> ModelChoice:
    found = [
        each
        for each in saved_models(settings.models_dir)
        if version in {each.version, f"{each.name}/{each.version}"}
    ]
    if not found:
        raise StartupError(f"No saved model is called {version or 'nothing'}; --list shows them.")
    if len(found) > 1:
        raise StartupError(f"Several models have the version {version}: give NAME/VERSION.")
    return found[0]


def _end(reason: str) -> None:
    typer.echo(reason, err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
