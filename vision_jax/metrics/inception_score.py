"""The Inception Score: how sure a classifier is of each image, and how different its answers are."""

import numpy as np
from jaxtyping import Float


def inception_score(
    logits: Float[np.ndarray, "n k"], *, splits: int = 10, seed: int | None = 2020
) -> tuple[float, float]:
    """Returns mean and standard deviation of exp E KL(p(y|x) || p(y)) over `splits` equal parts; from 1 to K.

    Salimans et al. 2016 (arXiv 1606.03498), as in torch-fidelity: rows are shuffled by `RandomState(seed)` first (None
    leaves the order), and the logits of the Inception network of 2015 are those without the last layer's bias. On the
    logits of another network this is a "classifier score" and comparable with itself alone.

    Raises:
        ValueError: fewer rows than parts.
    """
    from scipy.special import log_softmax

    count = len(logits)
    if not 1 <= splits <= count:
        raise ValueError(f"{count} images cannot be dealt into {splits} parts; give more images or fewer splits.")
    if seed is not None:
        logits = logits[np.random.RandomState(seed).permutation(count)]
    log_probabilities = log_softmax(np.asarray(logits, np.float64), axis=1)
    scores = []
    for part in range(splits):
        rows = log_probabilities[part * count // splits : (part + 1) * count // splits]
        probabilities = np.exp(rows)
        # A class that no image has a probability for adds nothing.
        marginal = np.log(np.maximum(probabilities.mean(0), np.finfo(np.float64).tiny))
        scores.append(np.exp((probabilities * (rows - marginal)).sum(1).mean()))
    return float(np.mean(scores)), float(np.std(scores))
