"""Metrics in words."""

import pytest

from vision_jax.metrics import words


@pytest.mark.parametrize(
    ("metric", "number", "examples", "text"),
    [
        ("accuracy", 147 / 185, 185, "79.5 % (n = 185, 95 % interval 73.1–84.7)"),
        ("accuracy", 0.5, None, "50.0 %"),
        ("macro_f1", 0.79459, 185, "79.5 %"),
        ("rarest_class_cnn_10k", 0.08123, None, "8.1 %"),
        ("psnr_y_x2_shave2", 38.3912, 24, "38.39 dB"),
        ("loss", 0.123456, 5, "0.1235"),
        ("bicubic_ssim_y_x2_shave2", 0.00062, 5, "0.0006"),
        ("loss", float("nan"), 5, "–"),
        ("count", 11_181_129, None, "11,181,129"),
    ],
)
def test_values(metric, number, examples, text):
    assert words.value(metric, number, examples) == text


def test_tables_that_say_the_number_of_examples_do_not_repeat_it():
    assert words.short("accuracy", 147 / 185, 185) == "79.5 % (73.1–84.7)"
    assert words.short("psnr_y_x2_shave2", 38.3912, 24) == "38.39 dB"
    assert words.short("accuracy", float("nan"), 5) == "–"


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("macro_f1", "F1, mean of the classes"),
        ("calibration_error_15_bins", "calibration error (15 bins)"),
        ("psnr_y_x2_shave2", "PSNR (luma, ×2, shave 2)"),
        ("bicubic_ssim_rgb_x4_shave4", "bicubic SSIM (RGB, ×4, shave 4)"),
        ("gain_psnr_gray_x3_shave3", "gain in PSNR (gray, ×3, shave 3)"),
        ("accuracy_tta6", "accuracy, mean of 6 views"),
        ("fd_resnet56", "fd resnet56"),
        ("frechet_8x8", "Fréchet distance of 8×8 pixels"),
        ("fid10k", "FID (10k images)"),
        ("fid10k_of_noise", "FID (10k images, noise)"),
        ("fid_clean_359", "FID (clean, 359 images)"),
        ("kid_std_10k", "KID, deviation (10k images)"),
        ("fd_resnet56_10k", "Fréchet distance (resnet56, 10k images)"),
        ("fd_infinity_resnet18_cifar_50k", "Fréchet distance, extrapolated (resnet18_cifar, 50k images)"),
        ("fd_cnn_10k_of_train", "Fréchet distance (cnn, 10k images, training images)"),
        ("rarest_class_mlp_500", "share of the rarest class (mlp, 500 images)"),
    ],
)
def test_labels(metric, text):
    assert words.label(metric) == text


@pytest.mark.parametrize(("seconds", "text"), [(38.2, "38 s"), (330, "5.5 min"), (7560, "2.1 h")])
def test_durations(seconds, text):
    assert words.duration(seconds) == text
