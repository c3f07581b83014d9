"""`docs/scaling.md` shows what the records, the catalogue and the models give, and its arithmetic is right."""

import json
import sys

import pytest

from datasets.catalog import REPO


@pytest.fixture(scope="module")
def plan():
    """`benchmarks/scaling.py` and the page that it makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPO / "benchmarks"))
        import scaling
        import scaling_page

        yield scaling, scaling_page
        for name in ("scaling", "scaling_page"):
            del sys.modules[name]


def test_the_page_shows_what_was_measured_and_worked_out(plan):
    scaling, page = plan
    assert scaling.PAGE.read_text() == page.page(), "python benchmarks/scaling.py"
    assert "../scaling" in (REPO / "docs/site/index.md").read_text().split()


def test_the_benchmark_of_two_processes_says_where_and_how_it_was_measured():
    found = json.loads((REPO / "saved_metrics/benchmarks/data_parallel.json").read_text())
    assert found["command"].startswith("python benchmarks/data_parallel.py") and found["git"]
    assert found["hardware"]["cpu"] and found["versions"]["torch"] and found["rounds"] >= 5
    for model in found["models"]:
        seconds = model["seconds a step"]
        low, high = model["efficiency, lowest and highest round"]
        assert low <= model["efficiency"] <= high
        assert model["efficiency"] == pytest.approx(seconds["alone"] / seconds["joined"], abs=0.05)
        assert model["efficiency"] > 0.85 or not model["quiet"], "two processes on two quiet cores"


def test_bytes_images_and_gradients_are_those_of_catalogue_and_models(plan):
    scaling, _ = plan
    jobs = {(job.dataset, job.model, job.selection): job for job in scaling.JOBS}
    middle = jobs["brats2020", "AttentionUNet", "middle"]
    assert middle.images == 369 * 77 and jobs["brats2020", "AttentionUNet", "all"].images == 369 * 155
    assert middle.on_disk == pytest.approx(1.9 * 2**30 / 57_195, rel=0.03), "as datasets/README.md says"
    assert middle.to_gpu == (4 + 3) * 240**2 + 16
    xrays = jobs["chest-xray14", "DenseNet121", "all"]
    assert xrays.on_disk == 256**2 + 4, "a byte a pixel and HDF5's checksum"
    assert xrays.trained == round((112_120 - 22_424) * 0.9) and not xrays.kept(1)
    network = jobs["brain-tumor-mri", "CustomCNN", "all"]
    assert network.network[0] == 3_001_156 and network.kept(8)
    frozen = jobs["brain-tumor-44c", "EfficientNetV2-B1", "all"]
    assert frozen.network[0] < 2e6, "of 7.7 million, S4 trains the last layers"
    assert network.gradients(2) == 4 * 3_001_156 and network.gradients(64) == pytest.approx(4 * 3_001_156 * 2 * 63 / 64)


def test_one_process_exchanges_nothing_and_none_gains_more_than_its_share(plan):
    scaling, _ = plan
    for job in scaling.JOBS:
        assert job.seconds(1, job.batch)["gradients"] == 0 and job.efficiency(1, job.batch, job.batch) == 1
        for processes in (8, 64):
            larger = job.efficiency(processes, processes * job.batch, job.batch)
            assert 0 < job.efficiency(processes, job.batch, job.batch) < larger <= 1
