"""Saved models by `torch.hub.load("OWNER/REPOSITORY", "saved_model", NAME)`, or of a checkout with source="local".

In a program that uses Hugging Face's `datasets`, whose name is also that of a folder here, install the wheel instead.
"""

import sys
from pathlib import Path

dependencies = [
    "torch",
    "torchvision",
    "torchmetrics",
    "accelerate",
    "timm",
    "kornia",
    "safetensors",
    "filelock",
    "tqdm",
]
dependencies += ["numpy", "scipy", "pandas", "sklearn", "matplotlib", "PIL", "cv2", "h5py", "nibabel", "pydicom"]


def saved_model(name: str = "best"):
    """The `SavedModel` of a run in saved_models/, of a folder, or of hf-hub:OWNER/NAME, on the CPU.

    `.network` is the torch module in evaluation mode, images in and logits out; `.prepare` and `.predict` do as its
    card says, from images as read to probabilities. Raises `DataError` where there is no such model.
    """
    for ours in ("datasets", "models", "utils"):
        other = sys.modules.get(ours)
        if other and str(Path(__file__).with_name(ours)) not in getattr(other, "__path__", ()):
            instead = "pip install this repository, and take open_model from honest_brain_mri.utils.predict.model"
            raise ImportError(f"another package named '{ours}' is loaded in this program; {instead}")
    from utils.predict.model import open_model

    return open_model(name)
