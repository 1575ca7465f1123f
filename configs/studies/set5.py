"""Set5 at one scale: the networks of 2014 to 2016 and a re-parameterized one, all trained on T91, in one table.

    python -m vision_jax.tools.study configs/studies/set5.py --out=runs/study_set5 --config.data.data_dir=FOLDER

FOLDER has T91 and Set5. Variant 'x3' or 'x4' is another scale than ×2.
"""

from vision_jax.study import Run, Study

VARIANTS = ("", "x2", "x3", "x4", "smoke")


def get_study(variant: str = ""):
    """Returns the study; 'smoke' has two networks for seconds."""
    if variant not in VARIANTS:
        raise ValueError(f"set5 has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    scale = variant or "x2"
    if variant == "smoke":
        runs = {"srcnn": "srcnn_t91.py:smoke", "light": "light_sr_t91.py:smoke"}
    else:
        runs = {
            "srcnn_915": f"srcnn_t91.py:{scale}",
            "srcnn_955": f"srcnn_t91.py:955_{scale}",
            "fsrcnn": f"srcnn_t91.py:fsrcnn_{scale}",
            "espcn": f"srcnn_t91.py:espcn_{scale}",
            "light": f"light_sr_t91.py:{scale}",
        }
    return Study(
        question="Which network enlarges pictures best, at which price?",
        runs=tuple(Run(name, f"configs/{config}") for name, config in runs.items()),
    )
