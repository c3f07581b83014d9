"""One architecture a file, pure torch: a batch in, logits out. `MODELS` names them all; read `custom_cnn.py` first."""

from models.alexnet import AlexNet
from models.custom_cnn import CustomCNN
from models.vgg16 import VGG16
from models.vit import ViT

# Classifiers trained from scratch, by the name that notebooks and jobs use.
MODELS = {model.__name__: model for model in (CustomCNN, AlexNet, VGG16, ViT)}

__all__ = ["MODELS", "VGG16", "AlexNet", "CustomCNN", "ViT"]
