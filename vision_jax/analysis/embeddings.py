"""Features in two or three dimensions, to be looked at."""

import numpy as np

_PRINCIPAL = 50  # Dimensions that t-SNE gets, as van der Maaten & Hinton 2008 take it from principal components.
_ITERATIONS = {2: 1000, 3: 500}  # In three dimensions it comes sooner to its end, and each iteration takes longer.


def subset(examples: int, most: int, seed: int = 0) -> np.ndarray:
    """Returns the rows of at most `most` of `examples`, drawn without replacement, ascending, int [N]."""
    if examples <= most:
        return np.arange(examples)
    return np.sort(np.random.default_rng(seed).choice(examples, most, replace=False))


def tsne(features: np.ndarray, dimensions: int, seed: int = 0) -> np.ndarray:
    """Returns the t-SNE embedding of features, float32 [N, dimensions] (van der Maaten & Hinton 2008; scikit-learn's).

    Near neighbors stay near each other; sizes of clusters and distances between them say little. Equal input gives
    equal output on one machine.

    Args:
        features: float [N, F], N at least 5.
        dimensions: 2 or 3.
        seed: of the randomized principal components and of t-SNE.

    Raises:
        ValueError: too few examples.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(features) < 5:
        raise ValueError(f"t-SNE of {len(features)} examples; it needs 5 at least.")
    features = features.reshape(len(features), -1)
    principal = min(_PRINCIPAL, *features.shape)
    with np.errstate(invalid="ignore"):  # Of features that are all equal, no component explains a part.
        reduced = PCA(principal, random_state=seed).fit_transform(features.astype(np.float32))
    # Belkina et al. 2019's rate (scikit-learn's gradient lacks a factor of 4). At scikit-learn's least, 50, fewer than
    # 500 points fly apart in three dimensions.
    rate = len(features) / 12 / 4
    # scikit-learn divides principal components by their deviation; of 0, t-SNE's C++ would crash.
    varied = principal >= dimensions and reduced[:, 0].std() > 0
    embedding = TSNE(
        dimensions,
        perplexity=min(30.0, (len(features) - 1) / 3),
        init="pca" if varied else "random",
        learning_rate=rate,
        max_iter=_ITERATIONS[dimensions],
        random_state=seed,
    )
    # One thread: the same on any number of cores, and several spin where others compute, too.
    with threadpool_limits(1):
        return embedding.fit_transform(reduced).astype(np.float32)
