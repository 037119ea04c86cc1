"""Times lightly's SimCLR step, its views included; a peer, for an environment that has lightly and torch.

    .peer/bin/python -m benchmarks.lightly_step --encoder=resnet18 --width=0.25 --precision=bfloat16

The same network as ours: ResNet with CIFAR's stem, lightly's projection head of two layers and its NT-Xent, SGD with
momentum. bfloat16 is `torch.autocast`. Prints a line of JSON with `seconds_per_step` and `peak_mib`.
"""

import argparse
import json
import statistics
import time
from typing import Any

from benchmarks.harness import peak_mib
from benchmarks.torch_loader import torchvision

DEPTHS = {"resnet18": ("BasicBlock", (2, 2, 2, 2)), "resnet50": ("Bottleneck", (3, 4, 6, 3))}


def encoder(name: str, width: float) -> tuple[Any, int]:
    """A ResNet of torchvision with CIFAR's stem, channels times `width`, without the last layer; its features."""
    from torch import nn

    torchvision()
    from torchvision.models import resnet

    kind, depths = DEPTHS[name]
    block, base = getattr(resnet, kind), round(64 * width)
    network = resnet.ResNet(block, list(depths))
    network.inplanes, network.maxpool, network.fc = base, nn.Identity(), nn.Identity()
    network.conv1, network.bn1 = nn.Conv2d(3, base, 3, 1, 1, bias=False), nn.BatchNorm2d(base)
    for stage, depth in enumerate(depths):
        layer = network._make_layer(block, base * 2**stage, depth, stride=min(stage, 1) + 1)
        setattr(network, f"layer{stage + 1}", layer)
    return network, base * 8 * block.expansion


def measure(name: str, width: float, batch_size: int, precision: str, runs: int, channels_last: bool) -> float:
    """Median seconds of a step on random CIFAR-sized images."""
    network, features = encoder(name, width)
    import numpy as np
    import torch
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms.simclr_transform import SimCLRTransform
    from PIL import Image

    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = torch.nn.Sequential(network, SimCLRProjectionHead(features, features, 128)).to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    criterion = NTXentLoss(0.5)
    transform = SimCLRTransform(input_size=32, gaussian_blur=0.0, cj_strength=0.5)
    images = np.random.default_rng(0).integers(0, 256, (batch_size, 32, 32, 3), dtype=np.uint8)
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        views = zip(*(transform(Image.fromarray(image)) for image in images), strict=True)
        first, second = (torch.stack(view).to(memory_format=layout) for view in views)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            projections = model(first), model(second)
        loss = criterion(*(projection.float() for projection in projections))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Prints the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", choices=DEPTHS, default="resnet18")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--channels_last", action="store_true")
    args = parser.parse_args()
    seconds = measure(args.encoder, args.width, args.batch_size, args.precision, args.runs, args.channels_last)
    print(json.dumps({"seconds_per_step": seconds, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
