"""What the paper's equations say, in NumPy and plain loops: slow, and as near to the text as code can be."""

import numpy as np


def unit(x):
    return x / np.linalg.norm(x)


SIMILARITIES = {
    "angular": lambda a, b, w: 1 - np.arccos(np.clip(unit(a) @ unit(b), -1, 1)) / np.pi,
    "bilinear": lambda a, b, w: a @ ((w + w.T) / 2) @ b,
    "cosine": lambda a, b, w: a @ b,
    "dot": lambda a, b, w: a @ b,
    "negative_euclidean": lambda a, b, w: -np.linalg.norm(a - b),
    "negative_manhattan": lambda a, b, w: -sum(abs(x - y) for x, y in zip(a, b, strict=True)),
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def nt_xent(positive, negatives, temperature, margin):
    """Equation 1."""
    top = np.exp(positive / temperature)
    return -np.log(top / (top + sum(np.exp(s / temperature) for s in negatives)))


def decoupled(positive, negatives, temperature, margin):
    """Yeh et al., 2021: equation 1 without the positive in the denominator."""
    if not negatives:
        return 0.0
    return -positive / temperature + np.log(sum(np.exp(s / temperature) for s in negatives))


def nt_logistic(positive, negatives, temperature, margin):
    """Table 2, the mean over the negatives."""
    terms = [np.log(sigmoid(-s / temperature)) for s in negatives]
    return -np.log(sigmoid(positive / temperature)) - (np.mean(terms) if terms else 0.0)


def margin_triplet(positive, negatives, temperature, margin):
    """Table 2, the mean over the negatives."""
    return np.mean([max(s - positive + margin, 0.0) for s in negatives]) if negatives else 0.0


LOSSES = {
    "decoupled": decoupled,
    "margin_triplet": margin_triplet,
    "nt_logistic": nt_logistic,
    "nt_xent": nt_xent,
}


def semi_hard(positive, negatives, margin):
    """Section 5.1: within the loss margin, but farther than the positive."""
    return [s for s in negatives if s < positive and positive - s < margin]


def contrast(z, loss, similarity, temperature=0.5, margin=0.4, mine=False, normalize=True, matrix=None):
    """Means over all 2N anchors.

    Args:
        z: (2N, D), row i and row i + N being the two views of an image.
        loss: key of `LOSSES`.
        similarity: key of `SIMILARITIES`.
        temperature: tau.
        margin: of triplets and mining.
        mine: whether only semi-hard negatives count in the loss.
        normalize: whether rows are put on the unit sphere, which those of "dot" never are.
        matrix: of "bilinear".

    Returns:
        Loss, contrastive accuracy, and entropy in nats.
    """
    n = len(z) // 2
    if normalize and similarity != "dot":
        z = np.array([unit(row) for row in z])
    losses, hits, entropies = [], [], []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        positive = SIMILARITIES[similarity](z[i], z[j], matrix)
        negatives = [SIMILARITIES[similarity](z[i], z[k], matrix) for k in range(2 * n) if k not in (i, j)]
        mined = semi_hard(positive, negatives, margin) if mine else negatives
        losses.append(LOSSES[loss](positive, mined, temperature, margin))
        hits.append(positive > max(negatives, default=-np.inf))
        p = np.exp(np.array([positive, *negatives]) / temperature)
        p /= p.sum()
        entropies.append(-sum(x * np.log(x) for x in p))
    return np.mean(losses), np.mean(hits), np.mean(entropies)
