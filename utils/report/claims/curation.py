"""Sentences on what curation found in the published splits."""

from datasets import catalog
from utils.report.claims.common import not_run
from utils.report.claims.old import Evidence


def patients_on_both_sides(evidence: Evidence) -> str:
    """How many test images of the published splits show a patient, or are a copy of an image, that training has."""
    said = []
    for found in evidence.findings:
        facts = found["facts"]
        known, there = (facts.get(f"linked test images{rest}", 0) for rest in ("", " with their patient in training"))
        if known:
            twins = facts["test images with a pixel-identical training twin"]
            images = sum(catalog.get(found["dataset"]).counts["test"].values())
            said.append(
                f"in `{found['dataset']}` the patient of {known:,} of the {images:,} test images is known, and "
                f"{there:,} of these have other slices of that patient in the training set; {twins:,} test images have "
                "a copy there, identical in every pixel"
            )
    if not said:
        return not_run("curation of a published split")
    return f"Yes. As published, {'; '.join(said)}. Patients were found by matching images to those of `cheng`."
