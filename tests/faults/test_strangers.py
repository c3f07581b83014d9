"""Files that strangers have, put to the commands: each is answered as its reference, left out with a note, or refused
in one line, also in a terminal that knows ASCII alone."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pytest
from archives import encoded
from dicom_files import dicom
from own_images import filled, head, volume
from PIL import Image
from pydicom.dataset import Dataset
from saved_model import save_model

from datasets.catalog import REPO

TERMINAL = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "MPLBACKEND": "nonsense"}
LINES = ("error: ", "note: ", "skipped: ", "warning: ")  # what a line on stderr begins with
LEFT_OUT = "no scans and were left out"
GREY, DEEP = head(1), head(1).astype(np.int16) * 16
AIR, NUMBERS = DEEP == 0, np.random.default_rng(0).permutation(256)
CLEAR = Image.fromarray(GREY)
CLEAR.putalpha(Image.fromarray(np.where(GREY > 150, 0, 255).astype(np.uint8)))
PALETTE, TABLE = {"PhotometricInterpretation": "PALETTE COLOR"}, Dataset()
for colour in ("Red", "Green", "Blue"):
    PALETTE[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
    PALETTE[f"{colour}PaletteColorLookupTableData"] = NUMBERS.astype(np.uint8).tobytes()
TABLE.LUTDescriptor, TABLE.LUTData, TABLE.ModalityLUTType = [256, 0, 16], (NUMBERS * 9).astype("<u2").tobytes(), "US"


def changed(content: bytes, place: int) -> bytes:
    """With one bit flipped."""
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def deep(kind: str, channels: int) -> bytes:
    return cv2.imencode(kind, np.dstack([DEEP] * channels).astype(np.uint16))[1].tobytes()


def flipped(path: Path) -> None:
    path.write_bytes(changed(volume(path).read_bytes(), 2000))


def renamed(path: Path) -> None:
    path.write_bytes(gzip.compress(volume(path).read_bytes()))


def bare(path: Path) -> None:
    path.write_bytes(dicom(path, DEEP).read_bytes()[132:])


def holding(*shape: int, value: object, affine: np.ndarray | None = None) -> Callable[[Path], None]:
    """Writes a volume of one value."""
    affine = np.eye(4) if affine is None else affine
    return lambda path: nib.save(nib.Nifti1Image(np.full(shape, value), affine), path)


def within_header(path: Path) -> None:
    content = volume(path).read_bytes()
    path.write_bytes(content[:108] + bytes(4) + content[112:])  # where the voxels begin


PNG = encoded(Image.fromarray(GREY))
MOVING = encoded(Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)])
ASKEW = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
TWICE = "of 16 bits in several channels"
# Name → its bytes, or what writes it, or pixels and tags of DICOM; and the pixels as which it is answered, or what is
# said of it.
FILES = {
    "plain.png": (PNG, GREY),
    "é.png": (PNG, GREY),
    "case_mask.png": (PNG, LEFT_OUT),
    "case.png": (PNG, GREY),
    "masks/case.png": (PNG, LEFT_OUT),
    "p1_seg.nii.gz": (volume, LEFT_OUT),
    "alpha.png": (encoded(CLEAR), np.where(GREY > 150, 0, GREY)),
    "one channel of 16 bits.png": (deep(".png", 1), np.rint(GREY * (255 / GREY.max()))),
    "colour.png": (deep(".png", 3), TWICE),
    "colour.tif": (deep(".tif", 3), TWICE),
    "colour and alpha.png": (deep(".png", 4), TWICE),
    "flipped.png": (changed(PNG, len(PNG) // 2), "not a whole image"),
    "cut.jpg": (encoded(Image.fromarray(GREY), "JPEG")[:-2] + b"\0\0", "a JPEG without its end"),
    "page.png": (b"<!DOCTYPE html>", "not an image"),
    "empty.jpg": (b"", "an empty file"),
    "black.png": (encoded(Image.fromarray(0 * GREY)), "an image of one grey value"),
    "moving.gif": (MOVING, "2 images in one file; save each as a file of its own"),
    "notes.txt": (b"notes", LEFT_OUT),
    "page.dcm": (b"<!DOCTYPE html>", "not a DICOM file"),
    "report.dcm": ((DEEP, {"PixelData": None}), "a DICOM file without image; leave it out"),
    "palette.dcm": ((GREY, PALETTE), NUMBERS[GREY]),
    "table.dcm": ((GREY, {"ModalityLUTSequence": [TABLE]}), NUMBERS[GREY] * 9),
    "turned round.dcm": ((DEEP, {"PhotometricInterpretation": "MONOCHROME1"}), DEEP.max() - DEEP),
    "padded.dcm": ((np.where(AIR, -2000, DEEP), {"PixelPaddingValue": -2000}), np.where(AIR, DEEP[~AIR].min(), DEEP)),
    "mosaic.dcm": ((DEEP, {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}), "a mosaic, many slices in one image"),
    "IM0001": (bare, DEEP),
    "flipped.nii.gz": (flipped, "the file ends early or is damaged"),
    "renamed.nii": (renamed, "not a NIfTI volume"),
    "offset.nii": (within_header, "damaged, since it says that its voxels begin within its header"),
    "complex.nii": (holding(4, 4, 4, value=1j), "holds complex numbers; save their magnitude"),
    "rgb.nii": (holding(4, 4, 4, value=np.array((1, 2, 3), [(c, "u1") for c in "RGB"])), "holds colours, not intensit"),
    "nan.nii": (holding(4, 4, 4, value=np.nan), "64 voxels are NaN or infinite; set them to 0"),
    "large.nii": (holding(4, 4, 4, value=1e300), "64 voxels are NaN or infinite"),
    "black.nii": (holding(4, 4, 4, value=0.0), "every slice is of one grey value"),
    "4d.nii": (holding(20, 20, 5, 3, value=1.0), "4 dimensions; one volume of three is taken"),
    "askew.nii": (holding(4, 4, 4, value=1.0, affine=ASKEW), "lies askew (its affine shears, or turns it by 37°)"),
}
LABELS = "image,label,patient\n0.png,a,{}\n1.png,b,{}\n"
OWN, LISTED = "datasets.download own --folder {}", "datasets.download own --labels {}/t.csv --size 64 --workers 1"
# What is asked → files in its folder; the command; its exit code, and what it says.
COMMANDS = {
    "one level too high": (["data/yes/0.png", "data/no/1.png"], OWN, 1, "all images lie in data, in its folders no, y"),
    "one patient": (LABELS.format("7", "007"), LISTED, 0, "'7' = '007'"),
    "no patient": (LABELS.format("7", "#N/A"), LISTED, 1, "'#N/A' is no patient"),
    "a shortened patient": (LABELS.format("7", '"1,2E+12"'), LISTED, 1, "'1,2E+12' is no patient"),
    "a pipe as archive": ([], "datasets.download navoneel --archive {}/pipe", 1, "pipe: no such file or folder, or"),
    "a pipe as scan": ([], "utils.predict.__main__ {}/pipe", 2, "pipe: no such file or folder"),
    "a chapter without its data": ([], "utils.headless notebooks/2_classification.ipynb -p dataset cheng", 2, "cheng"),
    "an export without a model": ([], "utils.export nowhere/model", 1, "nowhere/model"),
}


@pytest.fixture(scope="module")
def answered(tmp_path_factory, small_phantom) -> tuple[dict, dict, list[str]]:
    """Answers and errors by name, and what is said, of a model that is asked about all files and their references."""
    root = tmp_path_factory.mktemp("strangers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAIN_MRI_DATA", str(small_phantom))
        patch.setenv("BRAIN_MRI_OUTPUT", str(root))
        model = save_model("phantom").parent
    for number, (name, (content, wanted)) in enumerate(FILES.items()):
        path = root / "asked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            dicom(path, content[0], **content[1])
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content(path)
        if not isinstance(wanted, str) and path.suffix in (".dcm", ""):
            dicom(root / f"asked/reference {number}.dcm", wanted.astype(np.int16))
        elif not isinstance(wanted, str):
            Image.fromarray(wanted.astype(np.uint8)).save(root / f"asked/reference {number}.png")
    env = os.environ | TERMINAL | {"BRAIN_MRI_OUTPUT": str(root), "BRAIN_MRI_DATA": str(root / "data")}
    command = [sys.executable, "-m", "utils.predict", str(model), str(root / "asked"), "--json"]
    done = subprocess.run(command, env=env, cwd=REPO, capture_output=True, timeout=300, check=False)
    said, report = done.stderr.decode("ascii").splitlines(), json.loads(done.stdout)
    assert all(line.startswith(LINES) for line in said), said
    answers = {answer["file"]: answer["classes"] for answer in report["answers"]}
    return answers, {error["file"]: error["error"] for error in report["errors"]}, said


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_answered_as_its_reference_left_out_or_refused_in_one_line(name, answered):
    (answers, errors, said), wanted = answered, FILES[name][1]
    shown = os.fsencode(name).decode("ascii", "backslashreplace").replace("\\x", "\\udc")
    if not isinstance(wanted, str):
        end = "png" if name.endswith("png") else "dcm"
        reference = answers.pop(f"reference {list(FILES).index(name)}.{end}")
        assert answers[shown] == pytest.approx(reference, abs=1e-5)
    elif wanted == LEFT_OUT:
        assert name not in answers and name not in errors and any(wanted in line for line in said)
    else:
        skipped = f"skipped: {errors[name]}".encode("ascii", "backslashreplace").decode()
        assert name not in answers and wanted in errors[name] and skipped in said


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_says_in_a_line_what_it_makes_of_what_is_given(case, tmp_path, monkeypatch, capfd):
    given, command, code, wanted = COMMANDS[case]
    os.mkfifo(tmp_path / "pipe")
    filled(tmp_path, given if isinstance(given, list) else ["0.png", "1.png"])
    if isinstance(given, str):
        (tmp_path / "t.csv").write_text(given)
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path))
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(REPO)
    module, *words = command.format(tmp_path).split()
    assert import_module(module).main(words) == code
    said = capfd.readouterr().err.splitlines()
    assert any(wanted in line for line in said) and all(line.startswith(LINES) for line in said), said
