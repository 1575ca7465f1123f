"""Pooling against NumPy's means, moments against `np.cov`, the distance against its closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from vision_jax.metrics import frechet


def test_pixels_are_pooled_in_blocks_where_the_side_divides_both():
    images = np.random.default_rng(0).random((3, 4, 6, 2), np.float32)
    blocks = [[images[:, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].mean((1, 2)) for j in (0, 1)] for i in (0, 1)]
    pooled = np.asarray(frechet.pooled_pixels(jnp.asarray(images), 2))
    assert pooled.shape == (3, 8)
    np.testing.assert_allclose(pooled.reshape(3, 2, 2, 2), np.moveaxis(blocks, 2, 0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(5, 7), (4, 7), (7, 4)])
def test_pixels_are_resized_without_aliases_where_it_does_not(shape):
    images = np.random.default_rng(1).random((2, *shape, 3), np.float32)
    expected = jax.image.resize(jnp.asarray(images), (2, 4, 4, 3), "linear", antialias=True)
    np.testing.assert_array_equal(frechet.pooled_pixels(jnp.asarray(images), 4), expected.reshape(2, -1))
    board = jnp.indices((8 * shape[0] + 1, 8 * shape[1] + 1)).sum(0) % 2
    pooled = frechet.pooled_pixels(board[None, :, :, None].astype(jnp.float32), 2)
    np.testing.assert_allclose(pooled, 0.5, atol=0.05)


def test_moments_leave_padding_out_and_make_numpy_s_covariance():
    rng = np.random.default_rng(2)
    features = rng.normal(3.0, 2.0, (40, 5)).astype(np.float32)
    mask = (np.arange(40) < 33).astype(np.float32)
    sums = jax.device_get(frechet.moments(jnp.asarray(features), jnp.asarray(mask)))
    mean, covariance = frechet.gaussian(sums["first"], sums["second"], 33)
    assert mean.dtype == covariance.dtype == np.float64
    np.testing.assert_allclose(mean, features[:33].mean(0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(features[:33].T), rtol=1e-4, atol=1e-4)


def test_a_covariance_takes_two_examples():
    mean, covariance = frechet.gaussian(np.array([4.0]), np.array([[10.0]]), 2)  # Of 1 and 3.
    assert mean == [2.0] and covariance == [[2.0]]
    with pytest.raises(ValueError, match="two examples or more; found 1"):
        frechet.gaussian(np.array([1.0]), np.array([[1.0]]), 1)


def test_the_distance_of_independent_gaussians_is_that_of_means_and_deviations():
    mean1, mean2 = np.array([1.0, 2.0, 0.0]), np.array([-1.0, 2.5, 0.0])
    deviation1, deviation2 = np.array([0.1, 2.0, 0.0]), np.array([0.3, 0.5, 0.2])
    expected = ((mean1 - mean2) ** 2).sum() + ((deviation1 - deviation2) ** 2).sum()
    found = frechet.distance(mean1, np.diag(deviation1**2), mean2, np.diag(deviation2**2))
    assert isinstance(found, float) and found == pytest.approx(expected)


def test_the_distance_is_the_formula_with_the_root_of_a_product():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(50, 6)), rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))
    mean1, mean2, s1, s2 = first.mean(0), second.mean(0), np.cov(first.T), np.cov(second.T)
    root = scipy.linalg.sqrtm(s1 @ s2).real
    expected = ((mean1 - mean2) ** 2).sum() + np.trace(s1 + s2 - 2 * root)
    assert frechet.distance(mean1, s1, mean2, s2) == pytest.approx(expected)
    assert frechet.distance(mean2, s2, mean1, s1) == pytest.approx(expected)
    assert frechet.distance(mean1, s1, mean1, s1) == pytest.approx(0.0, abs=1e-9)


def test_rounding_below_zero_in_singular_covariances_does_no_harm():
    mean, covariance = np.zeros(2), np.diag([1.0, -1e-12])
    assert frechet.distance(mean, covariance, mean, covariance) == pytest.approx(0.0, abs=1e-9)
    assert frechet.distance(mean, covariance, mean, np.diag([-1e-12, 4.0])) == pytest.approx(5.0)


def test_frechet_distance_of_known_gaussians():
    mean, covariance = np.array([1.0, 2.0]), np.diag([4.0, 9.0])
    assert frechet.distance(mean, covariance, mean, covariance) == pytest.approx(0.0, abs=1e-9)
    # Axis-aligned: |dm|^2 + sum (s1 - s2)^2.
    assert frechet.distance(mean, covariance, mean + 3, np.diag([1.0, 1.0])) == pytest.approx(18 + 1 + 4)


def test_frechet_distance_matches_scipy_on_full_covariances():
    scipy = pytest.importorskip("scipy.linalg")
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=(50, 6)) @ generator.normal(size=(6, 6)) for _ in range(2))
    s1, s2 = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * scipy.sqrtm(s1 @ s2).real)
    assert frechet.distance(a.mean(0), s1, b.mean(0), s2) == pytest.approx(expected, rel=1e-6)


def test_moments_over_masked_batches_are_numpy_s_mean_and_covariance():
    features = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    mask = (np.arange(20) < 15).astype(np.float32)
    sums = jax.device_get(frechet.moments(jnp.asarray(features), jnp.asarray(mask)))
    mean, covariance = frechet.gaussian(sums["first"], sums["second"], 15)
    np.testing.assert_allclose(mean, features[:15].mean(0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(features[:15].T), rtol=1e-4)
    with pytest.raises(ValueError, match="two examples"):
        frechet.gaussian(sums["first"], sums["second"], 1)


@pytest.mark.parametrize("size", [8, 16, 12])
def test_pooling_keeps_the_mean(size):
    images = jnp.asarray(np.random.default_rng(0).random((2, size, size, 3)), jnp.float32)
    pooled = frechet.pooled_pixels(images, 8)
    assert pooled.shape == (2, 192)
    np.testing.assert_allclose(pooled.mean(1), images.mean((1, 2, 3)), rtol=2e-2)


def features(n=400, width=6, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, width)) @ rng.normal(size=(width, width)) + 3.0).astype(np.float32)


def of(*batches):
    found = frechet.Statistics()
    for batch in batches:
        found.add(batch)
    return found


@pytest.mark.parametrize("cuts", [[], [1], [7, 8, 399], list(range(1, 400))])
def test_statistics_are_numpy_s_whatever_the_batches_and_their_order(cuts):
    x = features()
    parts = np.split(x, cuts)
    for batches in (parts, parts[::-1]):
        mean, covariance = of(*batches).gaussian()
        assert mean.dtype == covariance.dtype == np.float64
        np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-12)
        np.testing.assert_allclose(covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-11, atol=1e-12)


def test_statistics_of_several_processes_are_those_of_all_rows():
    x = features()
    first, second, empty = of(x[:100]), of(x[100:250], x[250:]), frechet.Statistics()
    before = second.scatter.copy()
    empty.merge(first)
    empty.merge(frechet.Statistics())
    empty.merge(second)
    assert empty.count == 400
    np.testing.assert_allclose(empty.gaussian()[1], of(x).gaussian()[1], rtol=1e-12, atol=1e-12)
    # What was taken in is not changed by it.
    first.add(x)
    np.testing.assert_array_equal(second.scatter, before)
    assert empty.count == 400


def test_statistics_far_from_zero_keep_their_digits():
    x = np.random.default_rng(0).normal(size=(1000, 3))
    mean, covariance = of(x[:1] + 1e6, x[1:] + 1e6).gaussian()
    np.testing.assert_allclose(covariance, np.cov(x.T), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mean, x.mean(0) + 1e6, rtol=1e-12)


def test_statistics_refuse_what_makes_no_sense():
    found = of(np.zeros((0, 4), np.float32), np.ones((1, 3)))
    with pytest.raises(ValueError, match="two examples or more; found 1"):
        found.gaussian()
    with pytest.raises(ValueError, match="Features of 2 values cannot be added to those of 3"):
        found.add(np.ones((1, 2)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        found.add(np.array([[1.0, np.nan, 0.0]]))


@pytest.mark.parametrize("rank", [1, 5, 30])
def test_singular_covariances_give_their_closed_form(rank):
    """Two Gaussians in orthogonal subspaces share nothing: the distance is the sum of what each has."""
    width = 64
    rng = np.random.default_rng(rank)
    basis = np.linalg.qr(rng.normal(size=(width, width)))[0]
    first, second = ((b * rng.uniform(0.5, 20.0, rank)) @ b.T for b in (basis[:, :rank], basis[:, rank : 2 * rank]))
    zero = np.zeros(width)
    expected = np.trace(first) + np.trace(second)
    assert frechet.distance(zero, first, zero, second) == pytest.approx(expected, rel=1e-9)
    # The same Gaussian: rounding in the null space, whose roots are larger by far, does not show.
    assert frechet.distance(zero, first, zero, first) == pytest.approx(0.0, abs=1e-10 * expected)
    # A scaled one: tr (1 + s^2 - 2 s) S.
    assert frechet.distance(zero, first, zero, 9 * first) == pytest.approx(4 * np.trace(first), rel=1e-9)


def test_few_rows_give_the_distance_that_their_singular_values_have():
    """tr (S1 S2)^(1/2) is the sum of the singular values of A1 A2', with rows A such that S = A' A."""
    a, b = features(8, 40, 1).astype(np.float64), features(9, 40, 2).astype(np.float64)
    centered = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    cross = np.linalg.svd(centered[0] @ centered[1].T, compute_uv=False).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + sum((x**2).sum() for x in centered) - 2 * cross
    assert frechet.distance(*of(a).gaussian(), *of(b).gaussian()) == pytest.approx(expected, rel=1e-9)


def test_the_standard_error_is_the_spread_of_distances_over_drawings():
    rng = np.random.default_rng(0)
    mean, covariance = np.zeros(3), np.eye(3)
    drawn = [rng.normal(0.7, 1.3, (300, 3)) for _ in range(200)]
    distances = [frechet.distance(mean, covariance, *of(x).gaussian()) for x in drawn]
    errors = [frechet.standard_error(x, mean, covariance, resamples=60) for x in drawn[:10]]
    assert np.mean(errors) == pytest.approx(np.std(distances), rel=0.2)
    assert frechet.standard_error(drawn[0], mean, covariance, resamples=60) == errors[0]  # seeded
    assert frechet.standard_error(drawn[0], mean, covariance, resamples=60, seed=1) != errors[0]


def test_the_standard_error_is_no_matter_of_bias():
    """Features of the Gaussian itself: resamples lie far from the distance, and their own spread is small."""
    x = np.random.default_rng(0).normal(size=(60, 30))
    mean, covariance = np.zeros(30), np.eye(30)
    value = frechet.distance(mean, covariance, *of(x).gaussian())
    error = frechet.standard_error(x, mean, covariance)
    resample = x[np.random.default_rng(1).integers(0, 60, 60)]
    assert frechet.distance(mean, covariance, *of(resample).gaussian()) > value + 3 * error
    assert 0 < error < 0.25 * value


def test_a_bootstrap_needs_two_of_both():
    for rows, resamples in ((1, 50), (5, 1)):
        with pytest.raises(ValueError, match=f"found {rows} and {resamples}"):
            frechet.standard_error(np.ones((rows, 2)), np.zeros(2), np.eye(2), resamples=resamples)


def test_extrapolation_takes_the_bias_off():
    rng = np.random.default_rng(0)
    width = 20
    mean, covariance = np.zeros(width), np.eye(width)
    found = [rng.normal(size=(300, width)) for _ in range(12)]
    plain = np.mean([frechet.distance(mean, covariance, *of(x).gaussian()) for x in found])
    limit = np.mean([frechet.extrapolated(x, mean, covariance) for x in found])
    assert plain > 0.3  # It is 0 for infinitely many.
    assert abs(limit) < 0.2 * plain


def test_extrapolation_is_the_intercept_of_a_line_in_the_inverse_number(monkeypatch):
    sizes = []

    def linear(mean1, root1, mean2, covariance2):
        sizes.append(round(1 / mean2[0]))
        return 2.0 + 30.0 * mean2[0]

    class Counting(frechet.Statistics):
        def gaussian(self):
            return np.array([1.0 / self.count]), np.eye(1)

    monkeypatch.setattr(frechet, "_distance", linear)
    monkeypatch.setattr(frechet, "Statistics", Counting)
    found = frechet.extrapolated(features(200, 4), np.zeros(4), np.eye(4), points=5)
    assert found == pytest.approx(2.0)
    assert sizes == [100, 125, 150, 175, 200]
    with pytest.raises(ValueError, match="15 subsets of 12 features"):
        frechet.extrapolated(features(12, 4), np.zeros(4), np.eye(4))


def test_statistics_files_are_pytorch_fid_s_both_ways(tmp_path):
    x = features(50, 4)
    mean, covariance = of(x).gaussian()
    frechet.save(tmp_path / "ours.npz", mean, covariance, n=50, protocol="{}")
    with np.load(tmp_path / "ours.npz") as found:
        np.testing.assert_array_equal(found["mu"], mean)
        np.testing.assert_array_equal(found["sigma"], covariance)
    np.savez_compressed(tmp_path / "theirs.npz", mu=mean.astype(np.float32), sigma=covariance)
    for name, facts in (("ours", {"n": "50", "protocol": "{}"}), ("theirs", {})):
        read = frechet.load(tmp_path / f"{name}.npz")
        np.testing.assert_allclose(read[0], mean, rtol=1e-6)
        np.testing.assert_array_equal(read[1], covariance)
        assert read[0].dtype == np.float64 and read[2] == facts


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"images": np.zeros(3)}, "holds images; statistics are arrays named mu and sigma"),
        ({"mu": np.zeros(3), "sigma": np.zeros((3, 2))}, r"sigma float64 \(3, 2\); expected floats"),
        ({"mu": np.zeros(3, int), "sigma": np.zeros((3, 3))}, "mu is int64"),
        ({"mu": np.array([{}]), "sigma": np.zeros((1, 1))}, "is no .npz of plain arrays"),
    ],
)
def test_other_files_are_refused(arrays, match, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=match):
        frechet.load(tmp_path / "x.npz")
    (tmp_path / "y.npz").write_bytes(b"nothing of that kind")
    with pytest.raises(ValueError, match=r"is no \.npz of plain arrays"):
        frechet.load(tmp_path / "y.npz")
    with (tmp_path / "y.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"is no \.npz of plain arrays: it holds a single array without a name"):
        frechet.load(tmp_path / "y.npz")


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_the_distance_of_what_is_not_finite_is_nan(broken):
    """A GAN whose images overflow: LAPACK would raise, and the run is to end in its own words."""
    sums = np.full(3, broken), np.full((3, 3), broken)
    sound = frechet.gaussian(np.ones(3), np.eye(3), 4)
    for pair in ((frechet.gaussian(*sums, 4), sound), (sound, frechet.gaussian(*sums, 4))):
        assert np.isnan(frechet.distance(*pair[0], *pair[1]))
