"""What files and folders are scans of, and that every scan has a name of its own."""

import json
from pathlib import Path

import pytest
from dicom_files import series
from own_images import head, volume
from PIL import Image
from saved_model import save_model

from utils.predict.__main__ import DONE, USAGE, main
from utils.predict.prepare import Scan, find


def image(path: Path, seed: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(head(seed)).save(path)
    return path


def found(*paths: Path) -> dict[str, tuple[Path, ...]]:
    scans: list[Scan] = find(paths, ["grey"])[0]
    assert len({scan.name for scan in scans}) == len(scans), "every scan has a name of its own"
    return {scan.name: scan.files for scan in scans}


def test_scans_of_one_name_have_answers_and_files_of_their_own(classifier, tmp_path, capsys):
    one, two = image(tmp_path / "p1/slice.png"), image(tmp_path / "p2/slice.png", 2)
    out = tmp_path / "out"
    assert main([str(one), str(two), "--output", str(out), "--json"]) == DONE
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert [answer["file"] for answer in answers] == ["p1/slice.png", "p2/slice.png"]
    assert [answer["written"] for answer in answers] == [[str(out / f"{p}/slice.png.png")] for p in ("p1", "p2")]
    assert (out / "p1/slice.png.png").read_bytes() != (out / "p2/slice.png.png").read_bytes()
    model = save_model("phantom", "OutlineClassifier").parent
    for seed, patient in enumerate(("p1", "p2")):
        volume(tmp_path / patient / "v.nii.gz", seed=seed)
    assert main([str(model), *(str(tmp_path / p) for p in ("p1", "p2")), "--output", str(out)]) == DONE
    masks = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.nii.gz"))
    assert masks == [f"{p}/v.nii.gz-{name}.nii.gz" for p in ("p1", "p2") for name in ("labels", "tumour")]


def test_scans_are_named_by_their_paths_below_what_they_have_in_common(tmp_path, monkeypatch):
    one, two, three = (image(tmp_path / name) for name in ("a/t/x.png", "b/t/x.png", "b/u/x.png"))
    assert list(found(one, two, three)) == list(found(tmp_path)) == ["a/t/x.png", "b/t/x.png", "b/u/x.png"]
    assert list(found(two, three)) == ["t/x.png", "u/x.png"]
    assert found(one) == found(one, one) == {"x.png": (one,)}, "what is named twice is found once"
    monkeypatch.chdir(tmp_path / "a")
    assert len(found(Path("t/x.png"), one, tmp_path / "a/t")) == 1


def test_files_of_one_series_in_one_folder_are_one_scan_in_the_order_of_its_slices(tmp_path):
    one, two = series(tmp_path / "p1", "1.2.1"), series(tmp_path / "p2", "1.2.1")  # anonymous: all have one series
    third = series(tmp_path / "p2", "1.2.3", names="xyz")
    expected = {"p1/c.dcm": tuple(one[::-1]), "p2/c.dcm": tuple(two[::-1]), "p2/z.dcm": tuple(third[::-1])}
    assert found(tmp_path) == found(two[-1], tmp_path) == expected
    picture = image(tmp_path / "a.png")
    assert list(found(one[0], picture, *two, one[1])) == ["p1/b.dcm", "a.png", "p2/c.dcm"]


def test_what_cannot_be_written_to_is_refused_before_anything_is_computed(classifier, tmp_path, monkeypatch, capsys):
    scan, file = image(tmp_path / "a.png"), tmp_path / "file"
    file.touch()

    def full(*_) -> None:
        raise OSError(28, "No space left on device", "a.png")

    monkeypatch.setattr("utils.predict.verdict.write", full)
    assert main([str(scan), "--output", str(tmp_path / "out")]) == 1
    assert "error: [Errno 28] No space left on device" in capsys.readouterr().err
    monkeypatch.setattr("utils.predict.verdict.ask", lambda *_: pytest.fail("nothing is computed"))
    for to in (file, file / "out"):
        assert main([str(scan), "--output", str(to)]) == USAGE
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and str(tmp_path) in line and "; name a" in line
