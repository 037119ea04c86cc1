"""Pictures of what the augmentations do, to look at before a run: `python train.py --preview`."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from simclr_tf import augment, data, figures
from simclr_tf.augment import TwoViews, make_views
from simclr_tf.augment.base import Augmentation, to_bytes, to_float
from simclr_tf.config import Config
from simclr_tf.data.pipeline import naming_lost_images, read_batch
from simclr_tf.data.source import Dataset, Split, readable
from simclr_tf.training.run_folder import PREVIEW

# An operator of strength t in (0, 1], and one number used for all draws of an image; None draws them at random.
_Row = tuple[Callable[[float], Augmentation], float | None]
_ALWAYS = {"probability": 1.0}
OPERATORS: dict[str, _Row] = {
    "crop": (lambda t: augment.RandomResizedCrop((1 - 0.92 * t, 1 - 0.92 * t)), 0.5),
    "crop_bicubic": (lambda t: augment.RandomResizedCrop((1 - 0.92 * t, 1 - 0.92 * t), method="bicubic"), 0.5),
    "shift": (lambda t: augment.RandomCrop(0.25 * t), 0.999),
    "flip": (lambda t: augment.RandomFlip(1.0), 0.5),
    "brightness": (lambda t: augment.RandomBrightness(t, **_ALWAYS), 0.999),
    "contrast": (lambda t: augment.RandomContrast(t, **_ALWAYS), 0.999),
    "saturation": (lambda t: augment.RandomSaturation(t, **_ALWAYS), 0.999),
    "hue": (lambda t: augment.RandomHue(t, **_ALWAYS), 0.999),
    "jitter": (lambda t: augment.ColorJitter(t, **_ALWAYS), None),
    "gray": (lambda t: augment.RandomGrayscale(1.0), 0.5),
    "rotate90": (lambda t: augment.RandomRotate90(1.0), None),
    "rotate": (lambda t: augment.RandomRotate(45 * t), 0.999),
    "cutout": (lambda t: augment.RandomCutout((0.6 * t, 0.6 * t)), 0.4),
    "noise": (lambda t: augment.GaussianNoise((0.2 * t, 0.2 * t)), None),
    "blur": (lambda t: augment.GaussianBlur((2 * t, 2 * t), **_ALWAYS), 0.5),
    "sobel": (lambda t: augment.SobelFilter((t, t)), 0.5),
    "solarize": (lambda t: augment.Solarize((1 - 0.75 * t, 1 - 0.75 * t), **_ALWAYS), 0.5),
    "invert": (lambda t: augment.Invert(1.0), 0.5),
    "posterize": (lambda t: augment.Posterize((round(5 - 4 * t), round(5 - 4 * t)), **_ALWAYS), 0.5),
    "autoaugment": (lambda t: augment.AutoAugment(1.0), None),
}
STRENGTHS = (0.25, 0.5, 1.0)


@naming_lost_images()
def preview(config: Config, folder: str | Path = "preview") -> list[Path]:
    """Draws the views that a run would see, every operator, and the histograms of crops.

    Args:
        config: Settings of the run; its data set is read, nothing is trained.
        folder: Folder for the pictures, created if needed.

    Returns:
        The paths of three PNG files.

    Raises:
        ValueError: If the settings do not fit the data.
    """
    folder, settings = Path(folder), config.data
    dataset = data.load(settings.dataset, settings.data_dir, settings.image_size, config.training.seed)
    shown = some_images(dataset, 12)
    images = shown.array()
    scale = max(1, 96 // images.shape[1])
    # Not compiled: for a dozen images, compiling takes longer than it saves.
    views = make_views(**dataclasses.asdict(config.augmentation), seed=config.training.seed, compiled=False)
    cropped, distorted = (make_views(names, compiled=False) for names in ("crop", "crop,jitter"))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in PREVIEW]
    draw_views(views, shown, paths[0], scale)
    draw_operators(images[: 2 if scale > 1 else 1], paths[1], scale)
    draw_histograms(images[:3], cropped, distorted, paths[2])
    return paths


def some_images(dataset: Dataset, count: int) -> Split:
    """Training images evenly spaced through the data set; damaged ones are left out."""
    indices = np.linspace(0, len(dataset.train) - 1, min(count, len(dataset.train))).astype(np.int64)
    return dataset.train.take(readable(dataset.train, indices)[0])


def draw_views(views: TwoViews, images: Split, out: Path, scale: int) -> None:
    """Draws a few originals, and the pairs of views of each at two steps."""
    rows, cuts = [images.array()], views.cuts() if images.larger else None
    for step in range(2):
        rows += np.split(to_bytes(views(read_batch(images, np.arange(len(images)), step, cuts), step)), 2)
    figures.image_grid(rows, ["image", "view 1", "view 2", "view 1, later", "view 2, later"], out, scale)


def draw_operators(images: np.ndarray, out: Path, scale: int = 1, names: Sequence[str] | None = None) -> None:
    """Draws one row per operator: each image unchanged, and at the weakest, middle and strongest transformation.

    Operators without a strength are shown three times, with three draws if they are random.
    """
    names = list(names or OPERATORS)
    rows = []
    for name in names:
        shown = [images, *(operate(name, images, strength) for strength in STRENGTHS)]
        rows.append(np.concatenate([np.stack(four) for four in zip(*shown, strict=True)]))
    titles = ["image", "weakest", "middle", "strongest"] * len(images)
    figures.image_grid(rows, names, out, scale, titles)


def operate(name: str, images: np.ndarray, strength: float) -> np.ndarray:
    """Images transformed by one operator at a strength in (0, 1], uint8."""
    make, draw = OPERATORS[name]
    layer = make(strength)
    if draw is None:
        drawn = layer.draw(tf.constant([7, round(100 * strength)]), len(images), images.shape[1:])
    else:
        drawn = layer.parameters(tf.fill([layer.uniforms, len(images)], draw), images.shape[1:])
        drawn["chosen"] = tf.fill([len(images)], True)
    return to_bytes(layer.augment_images(to_float(tf.constant(images)), drawn))


def draw_histograms(images: np.ndarray, cropped: TwoViews, distorted: TwoViews, out: Path) -> None:
    """Draws histograms of crops of each image, without and with color distortion (the paper's figure 6).

    Crops of one image share their colors, so a network could recognize pairs by color alone; distortion prevents that.
    """
    figure = Figure(figsize=(9, 2.3 * len(images)), dpi=figures.DPI, layout="constrained")
    axes = figure.subplots(len(images), 3, gridspec_kw={"width_ratios": [1, 2, 2], "wspace": 0.05}, squeeze=False)
    for row, image in zip(axes, images, strict=True):
        row[0].imshow(np.broadcast_to(image, (*image.shape[:2], 3)))
        row[0].axis("off")
        for axis, views in zip(row[1:], (cropped, distorted), strict=True):
            # Four crops: two views of two copies.
            crops = to_bytes(views(tf.constant(np.stack([image, image])), 1))
            for color, crop in zip(figures.COLORS, crops, strict=False):
                axis.hist(crop.reshape(-1), bins=32, range=(0, 255), histtype="step", color=color, linewidth=1.5)
            axis.set(xlim=(0, 255), xticks=[0, 128, 255], yticks=[])
            axis.spines[["top", "left", "right"]].set_visible(False)
            axis.tick_params(colors=figures.INK)
    for axis, title in zip(axes[0], ("image", "four crops", "four crops, color distorted"), strict=True):
        axis.set_title(title, color=figures.INK, fontsize=11)
    for axis in axes[-1][1:]:
        axis.set_xlabel("pixel value", color=figures.INK)
    figures.save(figure, out)
