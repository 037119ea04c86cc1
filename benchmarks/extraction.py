"""Times the extraction of frozen features beside `keras.Model.predict` of the same encoder.

    python -m benchmarks.extraction --encoder=resnet18 --width=0.25 --images=10000

Images are random, 32 x 32, in memory as uint8; the encoder has random weights. `extract` folds each batch norm into the
convolution before it, which `predict` does not.
"""

from functools import partial

from benchmarks import harness


def measure(way: str, encoder: str, width: float, precision: str, images: int, runs: int) -> harness.Result:
    """The seconds that `extract` or `predict` takes."""
    import simclr_tf.quiet  # noqa: F401, I001
    import keras
    import numpy as np

    from simclr_tf.data.source import ArrayImages, Split
    from simclr_tf.evaluation.features import extract
    from simclr_tf.networks import make_encoder

    model = make_encoder(encoder, (32, 32, 3), width, "auto", dtype=precision)
    pixels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    if way == "predict":
        scaled = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255), model])
        call = partial(scaled.predict, pixels, batch_size=256, verbose=0)
    else:
        call = partial(extract, model, Split(ArrayImages(pixels)))
    return {"seconds": harness.measure(call, runs)["median"]}


def main() -> None:
    """Prints a table with a row for each way."""
    args = harness.arguments(
        __doc__, encoder="resnet18", width=0.25, precision="float32", images=10_000, runs=3, turns=2
    )
    settings = {name: getattr(args, name) for name in ("encoder", "width", "precision", "images", "runs")}
    ways = {way: partial(harness.own, measure, way=way, **settings) for way in ("extract", "predict")}
    found = harness.in_turns(ways, "seconds", args.turns)
    rows = [
        {"": way, "images/s": args.images / seconds, "times predict": found["predict"] / seconds}
        for way, seconds in found.items()
    ]
    title = f"features of {args.encoder} x {args.width:g}, {args.precision}, CPU"
    harness.show(title, {"": "", "images/s": ".0f", "times predict": ".2f"}, rows, args.json)


if __name__ == "__main__":
    main()
