"""The facts of the collections beside the sets that most chapters run on; `catalog.py` joins them to its own."""

from datasets.facts import HEALTHY, TUMOUR, Dataset

YES_NO = {"yes": TUMOUR, "no": HEALTHY}

FURTHER_SETS = (
    Dataset(
        name="navoneel",
        title="Brain MRI Images for Brain Tumor Detection: tumour or none, 253 images (test only)",
        classes=(HEALTHY, TUMOUR),
        counts={"": {HEALTHY: 98, TUMOUR: 155}},
        licence="as stated on its Kaggle page",
        citation="N. Chakrabarty, Brain MRI Images for Brain Tumor Detection, Kaggle 2019",
        url="https://www.kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection",
        kaggle="navoneel/brain-mri-images-for-brain-tumor-detection",
        archive="brain-mri-images-for-brain-tumor-detection.zip",
        folders=YES_NO,
        names=r"(?!(y|no)\d+\.)",
        test_only=True,
        faults=(
            "Nearly all images without a tumour are also in brain-tumor-mri: against a model that was trained on that "
            "set, no specificity can be measured here.",
            "Some images occur twice; no patient is named; sequences, planes and frames differ from image to image.",
            "The archive holds every image twice, at the top and below brain_tumor_dataset/.",
        ),
    ),
    Dataset(
        name="br35h",
        title="Br35H: tumour or none, 3,000 images",
        classes=(HEALTHY, TUMOUR),
        counts={"": {HEALTHY: 1500, TUMOUR: 1500}},
        licence="as stated on its Kaggle page",
        citation="A. Hamada, Br35H: Brain Tumor Detection 2020, Kaggle 2020",
        url="https://www.kaggle.com/datasets/ahmedhamada0/brain-tumor-detection",
        kaggle="ahmedhamada0/brain-tumor-detection",
        archive="brain-tumor-detection.zip",
        folders=YES_NO,
        names=r"(y|no)\d+\.",
        faults=(
            "All images without a tumour are also in brain-tumor-mri, which was assembled from them: against a model "
            "that was trained on that set, no specificity can be measured here.",
            "Br35H-Mask-RCNN/ repeats tumour images for detection, and pred/ has no labels: both are left out.",
            "No patient is named.",
        ),
    ),
)
