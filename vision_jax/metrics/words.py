"""Metrics in words: what a person calls them, and their values with unit, number of examples and interval.

Files keep the raw names and numbers; tables and pages take theirs from here.
"""

import re

from vision_jax.metrics.intervals import Interval, wilson

WILSON = "In parentheses: 95 % interval (Wilson)."
_LABELS = {
    "top5_accuracy": "top-5 accuracy",
    "macro_f1": "F1, mean of the classes",
    "weighted_f1": "F1, weighted by class size",
    "gradient_norm": "norm of the gradient",
}
_GENERATED = {  # What is measured of generated images; the extractor of the features and their number follow.
    "classifier_score": "classifier score",
    "classifier_score_std": "classifier score, deviation",
    "confidence": "confidence",
    "coverage": "coverage",
    "density": "density",
    "fd": "Fréchet distance",
    "fd_infinity": "Fréchet distance, extrapolated",
    "fid": "FID",
    "fid_infinity": "FID, extrapolated",
    "inception_score": "Inception Score",
    "inception_score_std": "Inception Score, deviation",
    "kd": "kernel distance",
    "kd_std": "kernel distance, deviation",
    "kid": "KID",
    "kid_std": "KID, deviation",
    "precision": "precision",
    "rarest_class": "share of the rarest class",
    "recall": "recall",
}
_STEMS = "|".join(sorted(_GENERATED, key=len, reverse=True))
_SHARES = ("accuracy", "calibration_error", "confidence", "rarest_class")


def label(metric: str) -> str:
    """Returns a metric's name for people: 'calibration_error_15_bins' is 'calibration error (15 bins)'.

    A number's protocol stays in its name.
    """
    if metric in _LABELS:
        return _LABELS[metric]
    if found := re.fullmatch(r"(bicubic_|gain_|)(psnr|ssim)_([a-z]+)_x(\d+)_shave(\d+)", metric):
        of, measure, channel, scale, border = found.groups()
        prefix = {"bicubic_": "bicubic ", "gain_": "gain in ", "": ""}[of]
        shown = {"y": "luma", "rgb": "RGB"}.get(channel, channel)
        return f"{prefix}{measure.upper()} ({shown}, ×{scale}, shave {border})"
    if found := re.fullmatch(r"calibration_error_(\d+)_bins", metric):
        return f"calibration error ({found[1]} bins)"
    if found := re.fullmatch(r"frechet_(\d+)x(\d+)", metric):
        return f"Fréchet distance of {found[1]}×{found[2]} pixels"
    # 'fd_resnet56_10k', but 'fid10k'.
    if found := re.fullmatch(rf"({_STEMS})(?:_(\w+?))?(?:_|(?<=id))(\d+k?)(?:_of_(train|noise))?", metric):
        stem, extractor, count, of = found.groups()
        of_other = {"train": ", training images", "noise": ", noise", None: ""}[of]
        return f"{_GENERATED[stem]} ({f'{extractor}, ' if extractor else ''}{count} images{of_other})"
    if found := re.fullmatch(r"accuracy_tta(\d+)", metric):
        return f"accuracy, mean of {found[1]} views"
    return metric.replace("_", " ")


def value(metric: str, number: float, examples: int | None = None) -> str:
    """Returns a metric's value for people.

    Args:
        metric: its name.
        number: its value.
        examples: it was measured on. An accuracy then gets them and Wilson's interval:
            '79.5 % (n = 185, 95 % interval 73.1–84.7)'.
    """
    if number != number:
        return "–"
    if "accuracy" in metric:
        return percent(wilson(round(number * examples), examples), examples) if examples else f"{100 * number:.1f} %"
    if in_percent(metric):
        return f"{100 * number:.1f} %"
    if "psnr" in metric:
        return f"{number:.2f} dB"
    if "ssim" in metric:
        return f"{number:.4f}"
    return f"{number:,.0f}" if abs(number) >= 1e4 else f"{number:.4g}"


def short(metric: str, number: float, examples: int | None = None) -> str:
    """Returns `value` for a table whose header says the number of examples: '79.5 % (73.1–84.7)' of an accuracy."""
    if number != number or "accuracy" not in metric or not examples:
        return value(metric, number)
    share = wilson(round(number * examples), examples)
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f}–{100 * share.high:.1f})"


def in_percent(metric: str) -> bool:
    """Returns whether a metric is a share, which people are told in per cent."""
    return metric.endswith("f1") or any(name in metric for name in _SHARES)


def percent(share: Interval, examples: int) -> str:
    """Returns a share, its number of examples and its interval."""
    return f"{100 * share.value:.1f} % (n = {examples:,}, 95 % interval {100 * share.low:.1f}–{100 * share.high:.1f})"


def duration(seconds: float) -> str:
    """Returns a time for people: '38 s', '5.5 min', '2.1 h'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.3g} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"
