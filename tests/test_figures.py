"""Tests of the pictures: valid, of a sensible size, not blank, and true to the pixels they show."""

import numpy as np
import pytest
from matplotlib.image import imread

from simclr_tf import figures
from simclr_tf.inspect import curves
from simclr_tf.training import metrics

COLUMNS = ("epoch", "step", "loss", "val_loss", "contrastive_accuracy", "learning_rate", "images_per_second")
BLUE, ORANGE = (0, 114, 178), (230, 159, 0)


@pytest.fixture
def table(tmp_path):
    def write(epochs, **columns):
        path = tmp_path / "metrics.csv"
        rows = [{"epoch": i + 1, "step": i} | {k: v[i] for k, v in columns.items()} for i in range(epochs)]
        metrics.write_rows(path, COLUMNS, rows)
        return path

    return write


def strip(n=3, height=4, width=5, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, channels), np.uint8)


def pixels(path):
    """uint8 `(H, W, 3)`."""
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    return (imread(path)[..., :3] * 255).round().astype(np.uint8)


def shows(picture, color):
    return (picture == color).all(axis=-1).any()


def test_loss_curves_show_both_losses(tmp_path, table):
    falling = [5.0, 4.5, 4.2, 4.1]
    path = table(4, loss=falling, val_loss=[5.1, None, 4.3, 4.2], contrastive_accuracy=[0.1, 0.2, 0.3, 0.4])
    curves.loss_curves(path, tmp_path / "plots" / "loss.png")
    picture = pixels(tmp_path / "plots" / "loss.png")
    half = picture.shape[1] // 2
    assert 400 < picture.shape[0] < 1000 < picture.shape[1] < 2000
    assert shows(picture[:, :half], BLUE) and shows(picture[:, :half], ORANGE)
    assert shows(picture[:, half:], BLUE) and not shows(picture[:, half:], ORANGE)
    assert [p.name for p in (tmp_path / "plots").iterdir()] == ["loss.png"]


def test_one_epoch_without_validation_is_visible(tmp_path, table):
    curves.loss_curves(table(1, loss=[5.0]), tmp_path / "loss.png")
    picture = pixels(tmp_path / "loss.png")
    assert shows(picture, BLUE) and not shows(picture, ORANGE)


def test_a_table_without_validation_is_drawn(tmp_path):
    """As that of a run which another program has trained."""
    rows = [{"epoch": 1, "step": 9, "loss": 5.0, "learning_rate": 0.1, "images_per_second": 9.0}]
    metrics.write_rows(tmp_path / "metrics.csv", list(rows[0]), rows)
    curves.loss_curves(tmp_path / "metrics.csv", tmp_path / "loss.png")
    assert shows(pixels(tmp_path / "loss.png"), BLUE)


def test_no_epoch_is_refused(tmp_path, table):
    with pytest.raises(ValueError, match="no epoch.*Received: .*metrics.csv"):
        curves.loss_curves(table(0), tmp_path / "loss.png")
    assert not (tmp_path / "loss.png").exists()


def test_pyplot_is_left_alone():
    names = {getattr(value, "__name__", "") for module in (figures, curves) for value in vars(module).values()}
    assert "matplotlib.pyplot" not in names


@pytest.mark.parametrize("scale", [1, 3])
def test_tile_shows_every_pixel_on_white(scale):
    first, second = strip(seed=1), strip(channels=1, seed=2)
    picture = figures.tile([first, second], scale)
    height, width = 4 * scale + 2, 5 * scale + 2
    assert picture.shape == (2 * height, 3 * width, 3) and picture.dtype == np.uint8
    for row, images in enumerate([first, second]):
        for column, image in enumerate(images):
            cell = picture[row * height :, column * width :][1 : height - 1, 1 : width - 1]
            assert (cell[::scale, ::scale] == image).all()
            assert (cell[scale - 1 :: scale, scale - 1 :: scale] == image).all()
    assert (picture[0] == 255).all() and (picture[:, -1] == 255).all()


def test_grid_holds_the_tile_exactly_beside_its_labels(tmp_path):
    rows = [strip(6, 32, 32, seed=seed) for seed in range(3)]
    figures.image_grid(rows, ["original", "view 1", "view 2"], tmp_path / "views.png", scale=2)
    picture, tile = pixels(tmp_path / "views.png"), figures.tile(rows, 2)
    margin = picture.shape[1] - tile.shape[1]
    assert picture.shape[0] == tile.shape[0] and 40 < margin < 120
    assert (picture[:, margin:] == tile).all()
    for label in np.array_split(picture[:, :margin], 3):
        assert label.min() < 100 and (label[:, 0] == 255).all()


def test_labels_are_no_formulas(tmp_path):
    figures.image_grid(
        [strip(4, 32, 32)], ["price_$5_$6.jpg"], tmp_path / "grid.png", scale=2
    )  # as a formula, an error
    assert (tmp_path / "grid.png").exists()


def test_titles_stand_above_their_columns(tmp_path):
    rows = [strip(4, 32, 32, seed=seed) for seed in range(2)]
    figures.image_grid(rows, ["crop", "flip"], tmp_path / "grid.png", scale=2, titles=["weak", "strong"])
    picture, tile = pixels(tmp_path / "grid.png"), figures.tile(rows, 2)
    head, margin = (whole - part for whole, part in zip(picture.shape[:2], tile.shape[:2], strict=True))
    assert (picture[head:, margin:] == tile).all()
    for title in np.array_split(picture[:head, margin:], 2, axis=1):
        assert title.min() < 100


@pytest.mark.parametrize(
    "rows",
    [[], [strip(), strip(n=2)], [strip(), strip(height=6)], [strip(channels=2)], [strip()[0]], [strip() / 255.0]]
    + [[strip(n=0)]],
)
def test_strips_that_do_not_fit_are_refused(rows):
    with pytest.raises(ValueError, match="Received: "):
        figures.tile(rows)


def test_bad_scale_and_labels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Received: 0$"):
        figures.tile([strip()], 0)
    with pytest.raises(ValueError, match="Received: 1 rows, 2 labels"):
        figures.image_grid([strip()], ["a", "b"], tmp_path / "views.png")
    assert list(tmp_path.iterdir()) == []
