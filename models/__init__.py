"""One architecture a file, pure torch: a batch in, logits out. Read `custom_cnn.py` first, then `classic_unet.py`.

A new classifier takes `num_classes`, `in_channels` and `image_size`, and has a name in `MODELS`: then chapter 2 trains
it by any recipe (`-p model TinyNet`).
"""

from models.alexnet import AlexNet
from models.attention_unet import AttentionUNet
from models.backbones import BACKBONES as BACKBONES
from models.backbones import build_backbone as build_backbone
from models.classic_unet import ClassicUNet
from models.custom_cnn import CustomCNN
from models.improved_unet import ImprovedUNet
from models.mobilenet_unet import MobileNetUNet
from models.multitask_unet import MultiTaskUNet
from models.outline_classifier import OutlineClassifier
from models.residual_unet import ResidualUNet
from models.vgg16 import VGG16
from models.vit import ViT

# Classifiers trained from scratch, segmenters, and what does several things, by the name that notebooks and jobs use.
MODELS = {model.__name__: model for model in (CustomCNN, AlexNet, VGG16, ViT)}
UNETS = (ClassicUNet, ImprovedUNet, AttentionUNet, ResidualUNet, MobileNetUNet)
SEGMENTERS = {model.__name__: model for model in UNETS}
MULTITASK = {model.__name__: model for model in (MultiTaskUNet,)}
LOCALISERS = {model.__name__: model for model in (OutlineClassifier,)}
PRETRAINABLE = {**BACKBONES, **LOCALISERS, MobileNetUNet.__name__: MobileNetUNet}  # those that ImageNet weights fit
