"""Fetches an archive from Kaggle through Kaggle's own client, and resumes where it was cut off."""

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import requests
import urllib3

from datasets.catalog import DataError, Dataset

TOKEN_PAGE = "https://www.kaggle.com/settings/api"


def fetch(dataset: Dataset, folder: Path) -> Path:
    """Download the archive of `dataset` into `folder` and return its path; an archive that is whole is kept.

    A download that was cut off resumes where it stopped, as long as the remote file is the same (the client
    compares its ETag).  Raises `DataError` for a set that is not on Kaggle, a token that is missing or
    refused, and a connection that stays lost.
    """
    command = f"python datasets/download.py {dataset.name} --archive FILE"
    by_hand = f"download {dataset.archive} from {dataset.url} and run: {command}"
    if not dataset.kaggle:
        raise DataError(f"{dataset.name} is not on Kaggle: {by_hand}")
    archive = folder / dataset.archive
    try:
        quiet = not sys.stderr.isatty()
        _client(by_hand).dataset_download_files(dataset.kaggle, path=str(folder), quiet=quiet)
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        remedy = f"try again later, or {by_hand}"
        if status == 401:
            remedy = f"it refused the token: make a new one at {TOKEN_PAGE} in place of it. Or {by_hand}"
        elif status in (403, 404):
            remedy = f"it was renamed or withdrawn, or its terms must be accepted on {dataset.url}"
        raise DataError(f"Kaggle does not give out '{dataset.kaggle}' ({status or error}); {remedy}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        reason = f"Kaggle was not reached or the download cut off ({type(error).__name__})"
        raise DataError(f"{archive}: {reason}; run again to go on, or {by_hand}") from error
    return archive


def _client(by_hand: str) -> Any:
    """Kaggle's client, logged in.  Its mere import looks for a token and, without one, prints a page."""
    with contextlib.redirect_stdout(io.StringIO()):
        import kaggle

        try:
            kaggle.api.authenticate()
        except SystemExit:
            places = "save it as ~/.kaggle/access_token or set KAGGLE_API_TOKEN (an older kaggle.json works as well)"
            raise DataError(
                f"Kaggle wants a token and none was accepted: make one at {TOKEN_PAGE}, then {places}. Or {by_hand}"
            ) from None
    return kaggle.api
