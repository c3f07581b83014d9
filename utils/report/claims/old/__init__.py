"""The lists of records that the sentences use, until they stand in the chapters; goes with them."""

from dataclasses import dataclass

from utils.report.records import BEST_RECIPE, FINE_TUNED, PROBE
from utils.report.records import Evidence as Frames


@dataclass(frozen=True)
class Evidence:
    """What `records.Evidence` was: lists of records in place of frames."""

    frames: Frames

    @property
    def records(self):
        return [self.frames.record(one) | {"old_folds": False} for one in self.frames.runs.id]

    @property
    def findings(self):
        return self.frames.curation

    @property
    def pointing(self):
        return self.frames.pointing

    def of(self, task):
        return [record for record in self.records if record["task"] == task]

    classification = property(lambda self: self.of("classification"))
    segmentation = property(lambda self: self.of("segmentation"))
    multitask = property(lambda self: self.of("multitask"))
    localisation = property(lambda self: self.of("localisation"))
    transfer = property(lambda self: [r for r in self.of("transfer") if r["run"]["recipe"] != "probe"])
    probes = property(lambda self: [r for r in self.of("transfer") if r["run"]["recipe"] == "probe"])

    @property
    def classifiers(self):
        named = [r | {"recipe": None, "run": r["run"] | {"model": f"{PROBE} {r['run']['model']}"}} for r in self.probes]
        return self.classification + named

    @property
    def headline(self):
        best = [r for r in self.transfer if r["run"]["recipe"] == BEST_RECIPE]
        named = [r | {"run": r["run"] | {"model": f"{FINE_TUNED} {r['run']['model']}"}} for r in best]
        return self.classifiers + named

    def history(self, record):
        return self.frames.history(record["id"])

    def predictions(self, record):
        return self.frames.predictions(record["id"])

    def validation(self, record):
        return self.frames.validation(record["id"])
