"""What this project and lightly learn on two cores, and in what time; both are judged by the same probes.

    python -m benchmarks.accuracy --data_dir=DIR --peer_python=.peer/bin/python        # about 20 minutes for 10,000 images

Both train a ResNet-18 x 1/4 on the files in DIR, CIFAR-10 in the official binary layout: lightly for ten epochs with
the paper's views and temperature, and with those of `recipe:cifar10_cpu` and a temperature that suits its loss
(`benchmarks/lightly_accuracy.py`, one process); this project by that recipe, with numbers of epochs that take about a
fifth of that time, and one that takes about all of it. Seconds are those of a process, from its start to the end of the
training, ours with the export. The probes are those of `evaluate.py --mode=linear` and `--mode=knn`.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import harness

PEERS = {
    "lightly, 10 epochs": (),
    "lightly, 10 epochs, the recipe's views": ("--temperature=0.2", "--crop_area=0.2", "--gray_probability=0.1"),
}
OURS = {
    f"this project, {epochs} epochs, {epochs - 1} at 16 pixels": (
        f"--epochs={epochs}", f"--resolutions={'16,' * (epochs - 1)}32",
    )
    for epochs in (3, 4, 5, 6)
} | {"this project, 24 epochs": ("--epochs=24",)}  # fmt: skip
COLUMNS = {"": "", "seconds": ".0f", "of lightly's": ".2f", "linear, %": ".1f", "kNN, %": ".1f"}


def cifar10(data_dir: str) -> tuple[Any, Any]:
    """The training and the test images."""
    from simclr_tf import data

    dataset = data.load("cifar10", data_dir, None, 0)
    return dataset.train, dataset.test


def write_images(data_dir: str, path: str) -> harness.Result:
    """Writes the images of CIFAR-10 as the peer reads them."""
    import simclr_tf.quiet  # noqa: F401, I001
    import numpy as np

    train, test = cifar10(data_dir)
    np.savez(path, train=train.array(), test=test.array())
    return {}


def represent(data_dir: str, run_dir: str, path: str) -> harness.Result:
    """Writes the features that a run's encoder has of the images."""
    import simclr_tf.quiet  # noqa: F401, I001
    import numpy as np

    from simclr_tf import encoders
    from simclr_tf.evaluation.features import extract

    encoder, (train, test) = encoders.load_encoder(Path(run_dir)), cifar10(data_dir)
    np.savez(path, train=extract(encoder, train), test=extract(encoder, test))
    return {}


def judge(data_dir: str, path: str) -> harness.Result:
    """Accuracy of both probes on the features in a file, in percent; every tenth image chooses the linear one's decay."""
    import simclr_tf.quiet  # noqa: F401, I001
    import numpy as np

    from simclr_tf.evaluation.knn import knn_probe
    from simclr_tf.evaluation.logistic import linear_probe
    from simclr_tf.evaluation.probe import Features, Labeled

    found, (train, test) = np.load(path), cifar10(data_dir)
    held = np.arange(len(train)) % 10 == 0
    learned, chosen = (Labeled(found["train"][part], train.labels[part]) for part in (~held, held))
    features = Features(learned, chosen, Labeled(found["test"], test.labels), 10)
    return {"linear, %": 100 * linear_probe(features).top1, "kNN, %": 100 * knn_probe(features).top1}


def main() -> None:
    """Prints a table with a row for each training."""
    args = harness.arguments(__doc__, data_dir="", peer_python="", precision="float32", seed=0)
    if not (args.data_dir and args.peer_python):
        sys.exit("accuracy: error: expected --data_dir and --peer_python")
    common = [f"--precision={args.precision}", f"--seed={args.seed}"]
    policy = "float32" if args.precision == "float32" else f"mixed_{args.precision}"
    rows: list[harness.Result] = []

    def keep(name: str, found: harness.Result) -> None:
        rows.append({"": name, **found, **harness.own(judge, data_dir=args.data_dir, path=features)})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)  # the next one takes minutes

    with tempfile.TemporaryDirectory() as temporary:
        images, features = f"{temporary}/images.npz", f"{temporary}/features.npz"
        harness.own(write_images, data_dir=args.data_dir, path=images)
        for name, words in PEERS.items():
            found = harness.run(
                args.peer_python, "-m", "benchmarks.lightly_accuracy", f"--images={images}", f"--out={features}",
                *common, *words,
            )  # fmt: skip
            keep(name, found)
        for name, words in OURS.items():
            command = [
                sys.executable, "train.py", "--flagfile=recipe:cifar10_cpu", f"--data_dir={args.data_dir}",
                f"--run_dir={temporary}/run", "--overwrite", f"--precision={policy}", f"--seed={args.seed}", *words,
            ]  # fmt: skip
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - start
            harness.own(represent, data_dir=args.data_dir, run_dir=f"{temporary}/run", path=features)
            keep(name, {"seconds": seconds})
    table = [{**row, "of lightly's": row["seconds"] / rows[0]["seconds"]} for row in rows]
    harness.show(f"CIFAR-10, ResNet-18 x 0.25, {args.precision}, seed {args.seed}", COLUMNS, table, args.json)


if __name__ == "__main__":
    main()
