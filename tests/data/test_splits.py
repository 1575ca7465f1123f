import numpy as np
import pytest

from vision_jax.data import splits

LABELS = np.array([0] * 10 + [1] * 5 + [2] * 3)


def test_known_indices():
    """Written down once: splits of published results must not move with versions of Python or NumPy."""
    made = splits.stratified(LABELS, {"test": 0.2, "val": 0.2}, seed=0)
    assert {name: indices.tolist() for name, indices in made.items()} == {
        "test": [0, 4, 10, 16],
        "val": [6, 9, 14, 17],
        "train": [1, 2, 3, 5, 7, 8, 11, 12, 13, 15],
    }
    assert splits.stratified(LABELS, {"val": 0.2}, seed=1)["val"].tolist() == [0, 3, 11, 17]


@pytest.mark.parametrize("seed", range(5))
def test_every_example_once_and_classes_in_proportion(seed):
    labels = np.random.default_rng(seed).choice(7, 1000, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.03, 0.02])
    made = splits.stratified(labels, {"test": 0.15, "val": 0.1}, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(made.values()))), np.arange(1000))
    assert len(made["test"]) == 150 and len(made["val"]) == 100
    for name, fraction in [("test", 0.15), ("val", 0.1)]:
        counts = np.bincount(labels[made[name]], minlength=7)
        assert np.all(np.abs(counts - fraction * np.bincount(labels)) < 1)
        assert np.all(np.diff(made[name]) > 0)


def test_test_split_does_not_depend_on_val_fraction():
    tests = [splits.stratified(LABELS, {"test": 0.2, "val": v}, 3)["test"] for v in (0.0, 0.1, 0.5)]
    np.testing.assert_array_equal(tests[0], tests[1])
    np.testing.assert_array_equal(tests[0], tests[2])


def test_seeds_differ():
    labels = np.zeros(100, np.int32)
    drawn = {tuple(splits.stratified(labels, {"val": 0.2}, seed)["val"]) for seed in range(20)}
    assert len(drawn) == 20


def test_with_keys_the_order_of_the_examples_does_not_matter():
    rng = np.random.default_rng(0)
    keys = np.array([f"file{i}" for i in range(len(LABELS))])
    expected = splits.stratified(LABELS, {"val": 0.3}, 0, keys)["val"]
    order = rng.permutation(len(LABELS))
    shuffled = splits.stratified(LABELS[order], {"val": 0.3}, 0, keys[order])["val"]
    assert set(keys[order][shuffled]) == set(keys[expected])


def test_a_class_keeps_an_example_to_train_on():
    labels = np.array([0] * 50 + [1] * 2 + [2])
    made = splits.stratified(labels, {"test": 0.5, "val": 0.4}, 0)
    assert set(labels[made["train"]]) == {0, 1, 2}
    assert len(splits.stratified(np.zeros(0, np.int32), {"val": 0.5}, 0)["train"]) == 0


@pytest.mark.parametrize("fractions", [{"val": -0.1}, {"val": 1.0}, {"val": 0.5, "test": 0.5}, {"train": 0.5}])
def test_impossible_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match="fractions"):
        splits.stratified(LABELS, fractions, 0)


def test_as_many_keys_as_labels():
    with pytest.raises(ValueError, match="18 labels but 2 keys"):
        splits.stratified(LABELS, {"val": 0.5}, 0, ["a", "b"])


def test_balanced_weights_equal_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(splits.class_weights(LABELS, 3), expected, rtol=1e-6)
    assert splits.class_weights(LABELS, 3)[LABELS].mean() == pytest.approx(1)


def test_effective_number_weights():
    counts = np.array([10, 5, 3])
    raw = np.array([1 / sum(0.9**k for k in range(n)) for n in counts])  # 1 / E_n, E_n = (1 - b^n) / (1 - b)
    weights = splits.class_weights(LABELS, 3, "effective_number", 0.9)
    np.testing.assert_allclose(weights, 3 * raw / raw.sum(), rtol=1e-6)
    np.testing.assert_allclose(splits.class_weights(LABELS, 3, "effective_number", 0.0), 1)
    nearly = splits.class_weights(LABELS, 3, "effective_number", 1 - 1e-9)
    np.testing.assert_allclose(nearly, 3 / counts / np.sum(1 / counts), rtol=1e-4)


def test_class_weights_refuse_what_has_no_answer():
    with pytest.raises(ValueError, match=r"each of the 4 classes.*\[10, 5, 3, 0\]"):
        splits.class_weights(LABELS, 4)
    with pytest.raises(ValueError, match="each of the 2 classes"):
        splits.class_weights(LABELS, 2)
    with pytest.raises(ValueError, match="'balanced' or 'effective_number'"):
        splits.class_weights(LABELS, 3, "inverse")
    with pytest.raises(ValueError, match="beta"):
        splits.class_weights(LABELS, 3, "effective_number", 1.0)


def test_every_number_of_draws_is_taken_from_the_fraction_of_all():
    labels = np.repeat(np.arange(4), 5)
    made = splits.stratified(labels, {"test": 0.25, "val": 0.25}, 0)
    assert len(made["test"]) == len(made["val"]) == 5 and len(made["train"]) == 10
    assert np.bincount(labels[made["test"]]).tolist() == [2, 1, 1, 1]  # The lower class has the remainder.
    assert made["test"].dtype == made["train"].dtype == np.int64


def test_a_class_of_one_or_two_gives_what_it_can_spare():
    labels = np.array([0, 1, 1, 2, 2, 2])
    made = splits.stratified(labels, {"test": 0.9}, 0)
    assert np.bincount(labels[made["test"]], minlength=3).tolist() == [0, 1, 2]
    assert sorted(labels[made["train"]]) == [0, 1, 2]


def test_class_weights_say_which_labels_there_are_and_take_cui_s_beta():
    with pytest.raises(ValueError, match=r"labels 0 to 3\); found \[10, 5, 3, 0\] examples for labels 0 to 3\."):
        splits.class_weights(LABELS, 4)
    default = splits.class_weights(LABELS, 3, "effective_number")
    np.testing.assert_array_equal(default, splits.class_weights(LABELS, 3, "effective_number", 0.999))
    assert default.dtype == np.float32
