"""Time and memory of the contrastive loss, forward and backward, on the CPU.

    python -m benchmarks.objectives
    python -m benchmarks.objectives --pairs 512 2048 --similarity negative_manhattan
    python -m benchmarks.objectives --peer_python .peer/bin/python --peer_script YOUR_SCRIPT.py

Times are the median of `--runs` calls; memory is the growth of the process's peak, compilation included. The peer's
script is called as `script loss --pairs N --runs 5`, right before our own measurement, and prints a line of JSON with
`seconds` and `extra_peak_mib`; up to `--peer_max_pairs`, because it needs more memory.
"""

from collections.abc import Sequence

from benchmarks import harness

DIM = 128


def measure(pairs: int, loss: str, similarity: str, runs: int) -> harness.Result:
    """Time and memory of the loss and its gradient, as `harness.measure` returns them."""
    import simclr_tf.quiet  # noqa: F401, I001
    import tensorflow as tf

    from simclr_tf.objectives import Objective

    objective = Objective(loss, similarity)
    objective.build((None, DIM))

    @tf.function
    def step(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = objective(z).loss
        return tape.gradient(value, z)

    z = tf.random.stateless_normal([2 * pairs, DIM], seed=[0, 0])
    return harness.measure(lambda: step(z).numpy(), runs)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a table with a row for each size."""
    sizes = {"pairs": [512, 2048, 4096, 8192], "peer_max_pairs": 4096}
    args = harness.arguments(__doc__, argv, loss="nt_xent", similarity="cosine", runs=5, **sizes, **harness.PEER)
    rows = []
    for pairs in args.pairs:
        with_peer = args.peer_script and pairs <= args.peer_max_pairs
        peer = harness.peer(args, "loss", "--pairs", pairs, "--runs", args.runs) if with_peer else None
        own = harness.own(measure, pairs=pairs, loss=args.loss, similarity=args.similarity, runs=args.runs)
        seconds, memory = own["median"], own["extra_peak_mib"]
        rows.append({"pairs": pairs, "s": seconds, "s, first call": own["first"], "extra peak MiB": memory})
        if peer:
            rows[-1] |= {"peer s": peer["seconds"], "peer extra MiB": peer["extra_peak_mib"]}
            rows[-1] |= {"times faster": peer["seconds"] / seconds, "memory ratio": peer["extra_peak_mib"] / memory}
    columns = {"pairs": "d", "s": ".3f", "s, first call": ".2f", "extra peak MiB": ".0f"}
    if args.peer_script:
        columns |= {"peer s": ".3f", "peer extra MiB": ".0f", "times faster": ".1f", "memory ratio": ".1f"}
    title = f"{args.loss}, {args.similarity}, {DIM} dimensions: loss and gradient"
    harness.show(title, columns, rows, args.json)


if __name__ == "__main__":
    main()
