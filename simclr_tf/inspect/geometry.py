"""What representations look like without labels: numbers that tell a healthy encoder from a collapsed one."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """Mean squared distance of the two views of an image on the unit sphere; 0 is best.

    Reference: Wang and Isola, 2020, https://arxiv.org/abs/2005.10242, equation 5 with alpha = 2.

    Args:
        first: Projections of the first views, float (N, D).
        second: Those of the second views, in the same order.
    """
    return float(np.mean(np.sum((unit(first) - unit(second)) ** 2, axis=1)))


def uniformity(rows: np.ndarray) -> float:
    """Logarithm of the mean Gaussian potential exp(-2 |a - b|^2) of all pairs on the unit sphere; lower is more uniform.

    0 if all are alike, or there is only one row; about -4 if they are spread evenly. Reference: Wang and Isola, 2020,
    equation 6 with t = 2.

    Args:
        rows: Projections, float (N, D).
    """
    if len(rows) < 2:
        return 0.0
    similarities = _pairs(unit(rows))
    return float(np.log(np.mean(np.exp(4 * similarities - 4))))  # |a - b|^2 = 2 - 2 ab


def effective_rank(rows: np.ndarray) -> float:
    """RankMe: exp of the entropy of the singular values, between 1 and D.

    Reference: Garrido et al., 2023, https://arxiv.org/abs/2210.02885, equation 1.

    Args:
        rows: Representations, float (N, D).
    """
    values = np.linalg.svd(np.asarray(rows, np.float64), compute_uv=False)
    p = values / max(values.sum(), 1e-12) + 1e-7
    return float(np.exp(-np.sum(p * np.log(p))))


def spread(rows: np.ndarray) -> float:
    """Standard deviation of the coordinates of unit vectors, times sqrt(D): 0 if all are alike, 1 if they are even.

    Reference: Chen and He, 2021, https://arxiv.org/abs/2011.10566, section 4.1.

    Args:
        rows: Projections, float (N, D).
    """
    return float(unit(rows).std(axis=0).mean() * np.sqrt(rows.shape[1]))


def contrast(first: np.ndarray, second: np.ndarray, temperature: float) -> tuple[float, float]:
    """Contrastive accuracy, and entropy in nats, of the prediction of each view's counterpart among all other rows.

    Args:
        first: Projections of the first views, float (N, D).
        second: Those of the second views, in the same order.
        temperature: tau of the softmax over cosine similarities.
    """
    rows = unit(np.concatenate([first, second]).astype(np.float64))
    logits = rows @ rows.T / temperature
    np.fill_diagonal(logits, -np.inf)
    targets = np.roll(np.arange(len(rows)), len(first))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    entropy = -np.sum(p * np.log(np.maximum(p, 1e-30)), axis=1)
    return float(np.mean(logits.argmax(axis=1) == targets)), float(entropy.mean())


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays as it is."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _pairs(rows: np.ndarray) -> np.ndarray:
    """Inner products of all pairs of different rows, (N (N - 1) / 2,)."""
    return (rows @ rows.T)[np.triu_indices(len(rows), 1)]


@dataclass(frozen=True)
class Geometry:
    """The numbers of one encoder and head, on two views of some images.

    Attributes:
        accuracy: Contrastive accuracy, a fraction.
        entropy: Contrastive entropy, in nats.
        alignment: `alignment` of the projections.
        uniformity: `uniformity` of the first views' projections.
        rank: `effective_rank` of the representations of the images as they are.
        dimensions: The most that it can be, the number of coordinates or of images.
        spread: `spread` of the first views' projections.
    """

    accuracy: float
    entropy: float
    alignment: float
    uniformity: float
    rank: float
    dimensions: int
    spread: float

    def narrower_than(self, spread: float, rank: float) -> bool:
        """Whether projections or representations have collapsed, against those of random weights.

        These, too, project all images to nearly the same place: only what is narrower than that has collapsed.
        """
        return self.spread < 0.5 * spread or self.rank < 0.5 * rank

    @classmethod
    def of(cls, h: np.ndarray, first: np.ndarray, second: np.ndarray, temperature: float) -> "Geometry":
        """The numbers of representations h (N, D) of images, and of projections (N, P) of both of their views."""
        accuracy, entropy = contrast(first, second, temperature)
        return cls(
            accuracy,
            entropy,
            alignment(first, second),
            uniformity(first),
            effective_rank(h),
            min(h.shape),
            spread(first),
        )


def verdict(trained: Geometry, untrained: Geometry, settings: Mapping[str, object]) -> tuple[str, str]:
    """What the numbers say, in one word and in a sentence with advice.

    Args:
        trained: Numbers of the run.
        untrained: Those of the same networks at their initial weights.
        settings: `learning_rate`, `temperature`, `epochs` of the run.

    Returns:
        `collapsed`, `untrained`, `weak` or `healthy`, and the sentence.
    """
    rank = f"rank {trained.rank:.0f} of {trained.dimensions}"
    # Of few images or weak views, random weights match nearly all: then the projections have to be spread, at least.
    gained = trained.accuracy >= untrained.accuracy + 0.05
    saturated = min(untrained.accuracy, trained.accuracy) > 0.95
    if gained or (saturated and trained.uniformity < untrained.uniformity):
        if trained.rank < 0.1 * trained.dimensions:
            return "weak", (
                f"Views are matched ({trained.accuracy:.0%}), but h uses few of its dimensions ({rank}): stronger views, a "
                f"lower `temperature={settings['temperature']:g}` or a larger batch may help."
            )
        return "healthy", (
            f"Views are matched ({trained.accuracy:.0%}; random weights {untrained.accuracy:.0%}), projections are spread "
            f"(uniformity {trained.uniformity:.1f}), and h uses its dimensions ({rank})."
        )
    if trained.narrower_than(untrained.spread, untrained.rank):
        return "collapsed", (
            f"The projections are all alike (spread {trained.spread:.2f} of 1, {rank}): lower "
            f"`learning_rate={settings['learning_rate']:g}` or warm up longer, and look at plots/views.png."
        )
    if trained.uniformity < untrained.uniformity - 1 and trained.alignment < 1:  # two random projections have 2
        return "weak", (
            f"Views of one image are close (alignment {trained.alignment:.2f}) and projections are spread (uniformity "
            f"{trained.uniformity:.1f}), but single images are hardly told apart ({trained.accuracy:.0%}): many may look "
            f"alike, or the run needs more than `epochs={settings['epochs']}`. A probe on labels tells more."
        )
    return "untrained", (
        f"Views are matched hardly better than by random weights ({trained.accuracy:.0%} against "
        f"{untrained.accuracy:.0%}): train longer than `epochs={settings['epochs']}`, or with a higher "
        f"`learning_rate={settings['learning_rate']:g}`."
    )
