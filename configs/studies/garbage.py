"""Garbage by photo: does a pretrained network beat one from scratch, and what does augmentation do for each?

    python -m vision_jax.tools.study configs/studies/garbage.py --out=runs/study_garbage \
        --config.data.root=~/dataset-resized

The four runs of the published experiment (scratch and ResNet-18 with a frozen body, each with and without
augmentation), and three that its authors did not do: a better network from scratch, and ResNet-18 with all layers
trained, on images as they are and augmented.
"""

from vision_jax.study import Run, Study

_RUNS = {
    "scratch": "garbage_cnn",
    "scratch_augmented": "garbage_cnn:augmented",
    "scratch_best": "garbage_cnn:best",
    "resnet18_frozen": "garbage_resnet18",
    "resnet18_frozen_augmented": "garbage_resnet18:augmented",
    "resnet18_fine_tuned": "garbage_resnet18:fine_tuned",
    "resnet18_fine_tuned_augmented": "garbage_resnet18:fine_tuned_augmented",
}


def get_study(variant: str = ""):
    """Returns the study; 'smoke' has the two networks for seconds."""
    runs = {"scratch": "garbage_cnn:smoke", "resnet18": "garbage_resnet18:smoke"} if variant == "smoke" else _RUNS
    named = {name: config.partition(":") for name, config in runs.items()}
    return Study(
        question="Does a pretrained network beat one from scratch on garbage, and what does augmentation do for each?",
        runs=tuple(Run(name, f"configs/{file}.py{colon}{of}") for name, (file, colon, of) in named.items()),
    )
