"""Trains lightly's SimCLR for a few epochs and writes its features; a peer, for an environment that has lightly and torch.

    .peer/bin/python -m benchmarks.lightly_accuracy --images=IMAGES.npz --out=FEATURES.npz --width=0.25 --epochs=10

IMAGES has uint8 arrays `train` and `test`, (N, 32, 32, 3); FEATURES gets float32 arrays of those names, (N, D). The network
is that of `benchmarks.lightly_step`, with SGD of momentum 0.9 and weight decay 5e-4, and a rate that falls by a cosine
after a twentieth of the steps. bfloat16 is `torch.autocast`. Prints a line of JSON with `seconds`, from the start of the
process to the end of the training.
"""

import argparse
import json
import math
import time
from typing import Any

from benchmarks.lightly_step import DEPTHS, encoder

START = time.perf_counter()


class Views:
    """Two views of each image, as torch's DataLoader takes them."""

    def __init__(self, images: Any, transform: Any) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        """Both views of an image."""
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index]))


def train(images: Any, network: Any, features: int, args: argparse.Namespace) -> None:
    """Trains the network on uint8 images (N, 32, 32, 3)."""
    import torch
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms.simclr_transform import SimCLRTransform

    model = torch.nn.Sequential(network, SimCLRProjectionHead(features, features, 128)).to(
        memory_format=torch.channels_last
    )
    transform = SimCLRTransform(
        input_size=32, gaussian_blur=0.0, cj_strength=0.5, min_scale=args.crop_area,
        random_gray_scale=args.gray_probability, normalize=None,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(Views(images, transform), args.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.learning_rate, momentum=0.9, weight_decay=5e-4)
    steps = args.epochs * len(loader)
    warm_up = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (step + 1) / warm_up if step < warm_up
        else (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2,
    )  # fmt: skip
    criterion = NTXentLoss(args.temperature)
    for _ in range(args.epochs):
        for views in loader:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.precision == "bfloat16"):
                projections = [model(view.to(memory_format=torch.channels_last)) for view in views]
            loss = criterion(*(projection.float() for projection in projections))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def represent(images: Any, network: Any) -> Any:
    """The network's features of uint8 images, float32 (N, D), with batch norm's moving statistics."""
    import torch

    network.eval()
    with torch.no_grad():
        batches = torch.from_numpy(images).permute(0, 3, 1, 2).split(500)
        return torch.cat([network(batch.float().div(255)) for batch in batches]).numpy()


def main() -> None:
    """Trains, writes the features and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--encoder", choices=DEPTHS, default="resnet18")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--learning_rate", type=float, default=0.12)
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--crop_area", type=float, default=0.08)
    parser.add_argument("--gray_probability", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    import numpy as np
    import torch

    torch.manual_seed(args.seed)
    network, features = encoder(args.encoder, args.width)
    images = np.load(args.images)
    train(images["train"], network, features, args)
    seconds = time.perf_counter() - START
    np.savez(args.out, **{name: represent(images[name], network) for name in ("train", "test")})
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
