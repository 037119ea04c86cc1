"""Times two views an image by torchvision and torch's DataLoader; a peer, for an environment that has both.

    .peer/bin/python benchmarks/torch_loader.py FOLDER --size=224 --workers=2 --batch=128 --images=4000

FOLDER has a folder of image files for each class. Each image is read and decoded once and gives two views, each by
RandomResizedCrop(size, scale=(0.08, 1)) and PILToTensor: uint8, and nothing else. Prints a line of JSON with
`images_per_second` (each gives two views), what it was measured with, and the versions.
"""

import argparse
import importlib
import json
import sys
import time
import types
from typing import Any

WARM_UP = 4  # batches for each worker, whose start and first reads are not timed
PREFETCH = 2  # batches that each worker makes in advance


def torchvision() -> types.ModuleType:
    """The package, also if its wheel was built for another torch: compiled operators, which it then lacks, are not used."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:  # operator torchvision::nms does not exist
        for name in ("_meta_registrations", "_autograd_registrations"):
            sys.modules[f"torchvision.{name}"] = types.ModuleType(name)
        return importlib.import_module("torchvision")


class TwoViews:
    """Two crops of one picture, uint8 of shape (2, 3, size, size)."""

    def __init__(self, size: int) -> None:
        from torchvision import transforms

        crop = transforms.RandomResizedCrop(size, scale=(0.08, 1))
        self.view = transforms.Compose([crop, transforms.PILToTensor()])

    def __call__(self, picture: Any) -> Any:
        """Both views of a PIL image."""
        import torch

        return torch.stack([self.view(picture), self.view(picture)])


def measure(folder: str, size: int, workers: int, batch: int, images: int) -> dict[str, Any]:
    """Images a second by a DataLoader in its steady state.

    The order goes on past the images that are timed: at both ends, the workers are at the same point of their work.

    Args:
        folder: Folder with a folder for each class.
        size: Side of the views, in pixels.
        workers: Number of the loader's processes, at least 1.
        batch: Images a batch.
        images: Images to time, rounded up to whole batches.

    Returns:
        What is printed.
    """
    vision = torchvision()
    import PIL
    import torch
    from PIL import features

    files = vision.datasets.ImageFolder(folder, TwoViews(size))
    before, timed, after = WARM_UP * workers, -(-images // batch), (PREFETCH + 1) * workers
    order = torch.utils.data.RandomSampler(files, num_samples=(before + timed + after) * batch)
    batches = iter(
        torch.utils.data.DataLoader(files, batch, sampler=order, num_workers=workers, prefetch_factor=PREFETCH)
    )
    for _ in range(before):
        next(batches)
    start = time.perf_counter()
    for _ in range(timed):
        views, _labels = next(batches)
    seconds = time.perf_counter() - start
    shape = (batch, 2, 3, size, size)
    if views.shape != shape or views.dtype != torch.uint8:
        raise ValueError(f"expected uint8 views of shape {shape}. Received: {views.dtype}, {tuple(views.shape)}")
    versions = {"torch": torch.__version__, "torchvision": vision.__version__, "pillow": PIL.__version__}
    jpeg = "libjpeg-turbo" if features.check("libjpeg_turbo") else "libjpeg"
    return {
        "images_per_second": timed * batch / seconds,
        "seconds": seconds,
        "images": timed * batch,
        "files": len(files),
        "size": size,
        "workers": workers,
        "batch": batch,
        "versions": {**versions, jpeg: features.version("libjpeg_turbo") or features.version("jpg")},
    }


def main() -> None:
    """Prints the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder with a folder of image files for each class")
    for name, default in {"size": 224, "workers": 2, "batch": 128, "images": 4000}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    print(json.dumps(measure(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
