"""Makes the sentences of the chapters about runs from the records; none is typed.

Each function takes the evidence and returns Markdown. A sentence claims no more than the intervals carry: a difference
whose 95 % interval includes 0 is called none. Where a run is missing, it says so.
"""

from utils.report.claims import old
from utils.report.claims.classification import (
    above_nearest_neighbour,
    cleaning,
    elsewhere,
    glioma_gap,
    jitter,
    sources,
    split_effect,
    untested_networks,
)
from utils.report.claims.copies import copies_across_folds
from utils.report.claims.curation import patients_on_both_sides
from utils.report.claims.findings import findings_ranked
from utils.report.claims.localisation import (
    localisation_steps,
    looks_at_tumour,
    outline_against_best,
    outlines_elsewhere,
)
from utils.report.claims.multitask import balances, multitask_ablation, multitask_by_split, reconstruction_error
from utils.report.claims.segmentation import (
    dice_loss,
    encoder_weights,
    gate_overlaps,
    gate_states,
    pretrained_encoder,
    resolution,
    slice_wise_split,
    tumour_size,
)
from utils.report.claims.transfer import (
    ensemble,
    fine_tuning_choice,
    frozen_backbone,
    ingredients,
    linear_probe,
    pretraining,
    seeds,
    test_time_augmentation,
)

__all__ = [
    "above_nearest_neighbour",
    "balances",
    "cleaning",
    "copies_across_folds",
    "dice_loss",
    "elsewhere",
    "encoder_weights",
    "ensemble",
    "findings_ranked",
    "fine_tuning_choice",
    "frozen_backbone",
    "gate_overlaps",
    "gate_states",
    "glioma_gap",
    "ingredients",
    "jitter",
    "linear_probe",
    "localisation_steps",
    "looks_at_tumour",
    "multitask_ablation",
    "multitask_by_split",
    "outline_against_best",
    "outlines_elsewhere",
    "patients_on_both_sides",
    "pretrained_encoder",
    "pretraining",
    "reconstruction_error",
    "resolution",
    "seeds",
    "slice_wise_split",
    "sources",
    "split_effect",
    "test_time_augmentation",
    "tumour_size",
    "untested_networks",
]


def _of_lists(sentence):
    def made(evidence, *args, **how):
        return sentence(evidence if isinstance(evidence, old.Evidence) else old.Evidence(evidence), *args, **how)

    made.__test__ = False
    return made


globals().update({name: _of_lists(globals()[name]) for name in __all__})
