"""The facts of the collections beside the sets that most chapters run on; `catalog.py` joins them to its own."""

from datasets.facts import HEALTHY, TUMOUR, Dataset

YES_NO = {"yes": TUMOUR, "no": HEALTHY}

NO_FINDING = "No Finding"
XRAY_COUNTS = {  # images that show each finding; several show more than one
    "Atelectasis": 11559,
    "Cardiomegaly": 2776,
    "Effusion": 13317,
    "Infiltration": 19894,
    "Mass": 5782,
    "Nodule": 6331,
    "Pneumonia": 1431,
    "Pneumothorax": 5302,
    "Consolidation": 4667,
    "Edema": 2303,
    "Emphysema": 2516,
    "Fibrosis": 1686,
    "Pleural_Thickening": 3385,
    "Hernia": 227,
    NO_FINDING: 60361,
}

TYPES_44 = {  # type: images with T1, T1 and contrast agent, T2; "_NORMAL" has none with contrast agent
    "Astrocitoma": (176, 233, 171),
    "Carcinoma": (66, 112, 73),
    "Ependimoma": (45, 48, 57),
    "Ganglioglioma": (20, 18, 23),
    "Germinoma": (27, 40, 33),
    "Glioblastoma": (55, 94, 55),
    "Granuloma": (30, 31, 17),
    "Meduloblastoma": (23, 67, 41),
    "Meningioma": (272, 369, 233),
    "Neurocitoma": (130, 223, 104),
    "Oligodendroglioma": (86, 72, 66),
    "Papiloma": (66, 108, 62),
    "Schwannoma": (148, 194, 123),
    "Tuberculoma": (28, 84, 33),
    HEALTHY: (251, 0, 271),
}
COUNTS_44 = {
    f"{kind} {sequence}": number
    for kind, numbers in TYPES_44.items()
    for sequence, number in zip(("T1", "T1C+", "T2"), numbers, strict=True)
    if number
}

FURTHER_SETS = (
    Dataset(
        name="brain-tumor-44c",
        title="Brain Tumor MRI Images, 44 classes: fourteen types of tumour or none × MR sequence, 4,478 images",
        classes=tuple(COUNTS_44),
        counts={"": COUNTS_44},
        licence="as stated on its Kaggle page",
        citation="F. Feltrin, Brain Tumor MRI Images 44 Classes, Kaggle 2023",
        url="https://www.kaggle.com/datasets/fernando2rad/brain-tumor-mri-images-44c",
        kaggle="fernando2rad/brain-tumor-mri-images-44c",
        archive="brain-tumor-mri-images-44c.zip",
        crop="none",  # S4 did not crop
        folders={label.replace(HEALTHY, "_NORMAL"): label for label in COUNTS_44},
        alike=("whole", 0.9),
        faults=(
            "No patient is named, and slices of one case follow each other: a random split tests whether cases are "
            "recognised. Images are grouped by their likeness.",
            "36 files repeat another one byte for byte.",
            "Classes are as small as 17 images, so that a class may have few or no groups in a fold.",
            "Granuloma and tuberculoma are inflammatory lesions; they count as tumours, as S4 counted them.",
        ),
    ),
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
    Dataset(
        name="chest-xray14",
        title="NIH ChestX-ray14: 14 findings, several an image; 112,120 X-rays of 30,805 patients, or a sample of them",
        classes=tuple(name for name in XRAY_COUNTS if name != NO_FINDING),
        findings=tuple(name for name in XRAY_COUNTS if name != NO_FINDING),
        counts={"": XRAY_COUNTS},
        published_images=112_120,
        licence="as stated by the NIH Clinical Center (no restriction on use; link to the source, cite the paper)",
        citation="Wang et al., CVPR 2017, 2097–2106 (arXiv:1705.02315)",
        url="https://www.kaggle.com/datasets/nih-chest-xrays/data",
        kaggle="nih-chest-xrays/data",
        archive="data.zip",
        layout="nih",
        crop="none",
        faults=(
            "Labels were read from reports by a program and are wrong in part, by the authors' estimate one in ten.",
            "A drain or tube may tell a finding that was treated: pneumothorax above all.",
            "Sides, view and age differ between findings; some files have four channels.",
            "Patients are known; the publisher's two lists share none.",
        ),
    ),
    Dataset(
        name="remind",
        title="ReMIND: DICOM series of 114 patients before and during surgery, with diagnoses (TCIA)",
        classes=(),  # the diagnoses that enough of the patients at hand have, see `sources/remind.py`
        counts={},
        licence="CC BY 4.0",
        citation="Juvekar et al., Sci Data 11 (2024) 494; The Cancer Imaging Archive, doi:10.7937/3RAG-D070",
        url="https://www.cancerimagingarchive.net/collection/remind/",
        archive="remind.zip",
        layout="remind",
        crop="none",
        slices=399,
        folds=7,
        faults=(
            "A label is the patient's diagnosis: most slices show no tumour, and some were made after its removal.",
            "Diagnoses of few patients are left out by rule, and of each patient 399 slices are kept.",
            "All patients are of one hospital, and each diagnosis has few.",
        ),
    ),
)
