r"""Times the input alone: images a second, two views of each, from each kind of source, beside torchvision's.

    python -m benchmarks.photographs PHOTOS --count=20000
    python -m simclr_tf.data.convert PHOTOS RECORDS
    python -m benchmarks.photographs_tfds PHOTOS PREPARED
    python -m benchmarks.input --folder=PHOTOS --records='RECORDS/*' --tfds=PREPARED \
        --peer_python=PYTHON --peer_script=benchmarks/torch_loader.py

Every way decodes each image once, cuts two boxes out of it and resizes these to 224 x 224 pixels, uint8; the peer does so
in two processes of a DataLoader. PYTHON has torch and torchvision. Each measurement is a process of its own.
"""

import sys
from functools import partial

from benchmarks import harness


def measure(name: str, data_dir: str | None, size: int, batch_size: int, images: int) -> harness.Result:
    """Images a second of the training images of a data set, after two batches."""
    import simclr_tf.quiet  # noqa: F401, I001
    import time

    from simclr_tf import data
    from simclr_tf.augment import make_views
    from simclr_tf.data.pipeline import training_batches

    train = data.load(name, data_dir, size).train
    batches = iter(training_batches(train, batch_size, seed=0, cuts=make_views().cuts()))
    next(batches), next(batches)
    count, start = 0, time.perf_counter()
    while count < images:
        next(batches)
        count += batch_size
    return {"images_per_second": count / (time.perf_counter() - start)}


def main() -> None:
    """Prints a table with a row for each way."""
    args = harness.arguments(
        __doc__, folder="", records="", tfds="", size=224, batch_size=128, images=4096, turns=2, **harness.PEER
    )
    if args.peer_script and not args.folder:
        sys.exit("input: error: expected --folder with --peer_script, which reads files")
    settings = {"size": args.size, "batch_size": args.batch_size, "images": args.images}
    ways = {}
    if args.folder:
        ways["folder"] = partial(harness.own, measure, name="folder", data_dir=args.folder, **settings)
    if args.records:
        ways["records"] = partial(harness.own, measure, name=f"records:{args.records}", data_dir=None, **settings)
    if args.tfds:
        ways["tfds"] = partial(harness.own, measure, name="tfds:photographs", data_dir=args.tfds, **settings)
    if args.peer_script and args.folder:
        words = (f"{args.folder}/train", "--size", args.size, "--batch", args.batch_size, "--images", args.images)
        ways["torchvision, 2 workers"] = partial(harness.peer, args, *words)
    if not ways:
        sys.exit("input: error: expected --folder, --records or --tfds. Received: none of them")
    found = harness.in_turns(ways, "images_per_second", args.turns)
    last = list(found)[-1]
    rows = [{"": way, "images/s": rate, f"times {last}": rate / found[last]} for way, rate in found.items()]
    columns = {"": "", "images/s": ".0f", f"times {last}": ".2f"}
    harness.show(f"two views of {args.size} x {args.size} pixels of each image", columns, rows, args.json)


if __name__ == "__main__":
    main()
