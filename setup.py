"""Builds the wheel: one package, `honest_brain_mri`, that holds `datasets`, `models` and `utils` with their tables and
the saved models.

In the repository, and where it is installed editably, the three are top-level packages. Beside other programs they may
not be: `datasets` is also the name of Hugging Face's. So each import of them, and each command that a message names, is
rewritten while the files are copied.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

NAME = "honest_brain_mri"
OURS = ("datasets", "models", "utils")
PACKAGES = find_packages(include=[*OURS, *(f"{name}.*" for name in OURS)])
CODE = {".py", ".toml", ".csv", ".html"}  # in a package
TABLES = ("datasets/splits", "datasets/originals", "saved_models", "saved_metrics")
NOTEBOOKS = {"utils/headless.py", "utils/chapters.py", "utils/parameters.py"}  # run the chapters, which stay behind
REWRITTEN = {
    rf"(?m)^(\s*from )(?=({'|'.join(OURS)})[. ])": rf"\1{NAME}.",
    rf"python -m (?=({'|'.join(OURS)})\b)": f"python -m {NAME}.",
    r"python datasets/download\.py": "honest-brain-mri download",
}


def files() -> Iterator[Path]:
    """All that a wheel holds, by its path in the repository."""
    yield Path(f"{NAME}.py")
    for package in PACKAGES:
        found = sorted(Path(*package.split(".")).iterdir())
        yield from (path for path in found if path.suffix in CODE and path.as_posix() not in NOTEBOOKS)
    for folder in TABLES:
        yield from (path for path in sorted(Path(folder).rglob("*")) if path.is_file())


def dependencies() -> list[str]:
    """What the modules import, from requirements.txt: at least the major version that is pinned there, so that other
    packages beside this one may have their say. What runs notebooks and tests stands last in that file."""
    text = Path("requirements.txt").read_text(encoding="utf-8").partition("# Notebooks")[0]
    return [f"{name}>={major}" for name, major in re.findall(r"(?m)^([\w.-]+)==(\d+)", text)]


class OnePackage(build_py):
    """Copies `files` below one name; an editable install copies nothing."""

    def run(self) -> None:
        if self.editable_mode:
            return super().run()
        shutil.rmtree(self.build_lib, ignore_errors=True)  # an earlier build may have left what is no more
        for path in files():
            target = Path(self.build_lib, NAME, "__init__.py" if path.stem == NAME else path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix != ".py":
                shutil.copyfile(path, target)
                continue
            text = path.read_text(encoding="utf-8")
            for pattern, new in REWRITTEN.items():
                text = re.sub(pattern, new, text)
            target.write_text(text, encoding="utf-8")

    def get_source_files(self) -> list[str]:
        """What a source archive holds besides, from which the same wheel can be built."""
        return ["requirements.txt", *map(str, files())]


if __name__ == "__main__":
    setup(
        packages=PACKAGES if "editable_wheel" in sys.argv else [],
        py_modules=[NAME],
        install_requires=dependencies(),
        cmdclass={"build_py": OnePackage},
    )
