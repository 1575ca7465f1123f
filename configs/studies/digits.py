"""How much does dropout do for a small CNN on scikit-learn's digits, and how much does the seed?

    python -m vision_jax.tools.study configs/studies/digits.py --out=runs/study_digits

Four runs of less than a minute each; `--search=halving --budget=9` looks for rate and decay instead.
"""

from vision_jax.study import Range, Run, Study


def get_study(variant: str = ""):
    """Returns the study; 'smoke' has runs of seconds."""
    config = "configs/digits_cnn.py" + (f":{variant}" if variant else "")
    return Study(
        question="Does dropout help a small CNN on digits by more than the seed changes?",
        runs=(
            Run("with_dropout", config),
            Run("without_dropout", config, {"model.cnn.dropout": 0.0}),
        ),
        grid={"seed": (0, 1)},
        space={
            "optimizer.learning_rate": Range(3e-4, 3e-2, log=True),
            "optimizer.weight_decay": (0.0, 1e-3, 1e-2, 1e-1),
        },
        length=("train.epochs", 4.0 if variant else 60.0),
    )
