"""A folder of photos: which of seven pretrained networks, and what do weighted classes and falling rates bring?

    python -m vision_jax.tools.study configs/studies/photos_transfer.py --out=runs/study_photos \
        --config.data.root=~/photos

Besides the seven, ResNet-18 without class weights, with one rate for all layers, and at a constant rate.
"""

from vision_jax.study import Range, Run, Study

_NETWORKS = ("resnet18", "vgg16", "densenet161", "googlenet", "mobilenet_v2", "resnext50_32x4d", "wide_resnet50_2")


def get_study(variant: str = ""):
    """Returns the study; 'smoke' has two runs of seconds."""
    config = "configs/photos_transfer.py"
    if variant == "smoke":
        runs = (
            Run("resnet18", f"{config}:smoke"),
            Run("resnet18_one_rate", f"{config}:smoke", {"optimizer.stage_decay": 1.0}),
        )
    else:
        runs = (
            *(Run(name, f"{config}:{name}") for name in _NETWORKS),
            Run("resnet18_unweighted", f"{config}:resnet18", {"data.class_weights": "none"}),
            Run("resnet18_one_rate", f"{config}:resnet18", {"optimizer.stage_decay": 1.0}),
            Run("resnet18_constant_rate", f"{config}:resnet18", {"schedule.name": "constant"}),
        )
    return Study(
        question="Which pretrained network is best on these photos, and what do class weights and falling rates bring?",
        runs=runs,
        space={
            "optimizer.learning_rate": Range(2e-4, 5e-3, log=True),
            "optimizer.stage_decay": Range(0.3, 0.9),
            "train.label_smoothing": (0.0, 0.1, 0.2),
        },
        length=("train.epochs", 3.0 if variant else 30.0),
    )
