"""Where the trials of a search are kept: a journal file, or a database; several workers may share either.

Source:
    Optuna's documentation: a journal file serves the processes of one machine and, its lock being a symbolic link,
    machines that share a file system; a client-server database (PostgreSQL, MySQL) serves machines that share nothing
    else.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from saccade.proto.errors import ExportError
from saccade.proto.file_errors import naming

_SETTINGS = "settings"
_COLLISIONS, _PAUSE_S = 5, 0.5


def is_database(place: str) -> bool:
    """Return whether a place is the URL of a database, and not the path of a journal.

    Args:
        place: What ``--study`` says.
    """
    return "://" in place


def open_study(
    place: str, name: str, settings: Mapping[str, Any], sampler: BaseSampler, *, wants_more: bool
) -> optuna.Study:
    """Open the study of a search, or begin it.

    Args:
        place: Path of a journal, or URL of a database.
        name: Name of the study there.
        settings: What the search is; a study of another one is refused. Plain JSON values.
        sampler: Proposes options.
        wants_more: Whether larger values are better.

    Raises:
        ExportError: The study is of another search, or nobody answers at the URL.
        FileError: The journal cannot be written.
    """
    logging.getLogger("optuna").setLevel(logging.ERROR)
    study = optuna.create_study(
        storage=_storage(place),
        study_name=name,
        direction="maximize" if wants_more else "minimize",
        sampler=sampler,
        load_if_exists=True,
    )
    if _SETTINGS not in study.user_attrs:
        study.set_user_attr(_SETTINGS, settings)
    known = study.user_attrs[_SETTINGS]
    if known != json.loads(json.dumps(settings)):
        raise ExportError(
            f"{_shown(place)}: expected the journal of this search, found one of {known}; move it away or "
            "choose another --out or --study."
        )
    return study


def take(study: optuna.Study, most: int) -> optuna.Trial | None:
    """Return the next trial, or None if there are enough; exactly so many are taken by all workers together.

    Args:
        study: Study, maybe shared.
        most: Number of trials in all.
    """
    if len(counted(study)) >= most:
        return None
    trial = study.ask()
    # Whoever asked at the same time and came later gives way.
    if sum(other.number < trial.number for other in counted(study)) >= most:
        study.tell(trial, state=TrialState.FAIL)
        return None
    return trial


def counted(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the trials that count: evaluated, refused, or with a worker."""
    return [trial for trial in study.trials if trial.state is not TrialState.FAIL]


def _storage(place: str) -> BaseStorage:
    if not is_database(place):
        path = Path(place)
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(place))
    try:
        return _database(place)
    except (ImportError, ValueError, SQLAlchemyError, StorageInternalError) as error:
        why = str(error).strip().splitlines()[0]
        raise ExportError(
            f"expected a database for the study at {_shown(place)}, found {type(error).__name__}: {why}. Install its "
            "driver, start it, or name a journal file instead."
        ) from error


def _database(url: str) -> RDBStorage:
    """Open a database, and make its tables; of workers that do so at once, those that come too late look again."""
    for _ in range(_COLLISIONS):
        try:
            return RDBStorage(url)
        except DBAPIError as error:  # noqa: PERF203 - a few times
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(_PAUSE_S)
    return RDBStorage(url)


def _shown(place: str) -> str:
    """Return the place without a password."""
    if not is_database(place):
        return Path(place).name
    try:
        return make_url(place).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return f"{place.partition('://')[0]}://…"
