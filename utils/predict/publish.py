"""Publishes saved models on Hugging Face's hub, a repository each, so that `hf-hub:OWNER/NAME` finds them.

`python -m utils.predict.publish OWNER MODEL…` says what it would upload; `--upload` does so, with the token that
`hf auth login` left.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi

from datasets.catalog import DataError
from datasets.reading import one_line
from utils.commands import errors_in_one_line
from utils.predict import saved_models
from utils.predict.model import SavedModel
from utils.report.weights import HUB, HUB_FILES, NOTE


def files_of(folder: Path) -> list[Path]:
    """What is uploaded of a model's folder: card and tensors, nothing that would have to be unpickled."""
    return sorted(path for pattern in HUB_FILES for path in folder.glob(pattern))


def publish(model: SavedModel, owner: str, api: HfApi) -> str:
    """Upload a model, whose weights and card were found to be of one another; returns the name that fetches it.

    Raises:
        DataError: the hub cannot be reached, or takes nothing from whoever is logged in.
    """
    repository = f"{owner}/{model.name}"
    message = f"{model.name}. {NOTE} Licence of its data: {model.card['licence_of_data']}"
    files = {"folder_path": model.folder, "allow_patterns": list(HUB_FILES)}
    try:
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, commit_message=message, **files)
    except Exception as error:  # of all kinds, as in `reading`: the hub's own, the network's, those of what uploads
        reason = f"{HUB}{repository}: cannot be published ({one_line(error)})"
        raise DataError(f"{reason}; log in with `hf auth login`, and check the name and the network") from error
    return HUB + repository


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m utils.predict.publish", description=__doc__.splitlines()[0])
    parser.add_argument("owner", help="user or organisation on the hub")
    parser.add_argument("models", nargs="+", help="names of saved models, or folders of them")
    parser.add_argument("--upload", action="store_true", help="do it; without, say only what would be done")
    args = parser.parse_args(argv)
    for model in [model for name in args.models for model in saved_models.open_models(name)]:
        size = sum(path.stat().st_size for path in files_of(model.folder)) / 1e6
        names = ", ".join(path.name for path in files_of(model.folder))
        print(f"{HUB}{args.owner}/{model.name}: {names}, {size:.1f} MB; {model.card['licence_of_data']}")
        if args.upload:
            print("published:", publish(model, args.owner, HfApi()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
