"""Takes a run to a GPU that has JAX but no TensorFlow, and brings it back.

    python -m benchmarks.gpu_bundle lower --bundle=B -- --flagfile=recipe:cifar10_resnet18 --data_dir=DIR --epochs=100
    python -m benchmarks.gpu_bundle run --bundle=B --seconds=480     # there, in an environment with JAX; again to go on
    python -m benchmarks.gpu_bundle compare --bundle=B               # here: the same steps by TensorFlow
    python -m benchmarks.gpu_bundle restore --bundle=B && python evaluate.py --run_dir=B

`lower` writes the complete train step of one replica (views, networks, loss, optimizer, schedule), compiled for fixed
shapes, into

    step.hlo       the step as serialized HLO
    step.json      its parameters (images and variables) and outputs (metrics and variables), in order
    variables.npz  the initial value of each variable, p<number of the parameter>
    images.npy     the training images, uint8 (N, H, W, C)
    bundle.json    the seed of the order, and the parts of the run: the folder of each, and its last step

and config.json, which makes the folder one of a run. With `--resolutions` each part has a folder for its side of the views,
with the first two files; otherwise there is one part. `run` shuffles the images of each epoch by (seed, epoch), drops the
remainder, and keeps state.npz, log.jsonl (means over the steps of an epoch, or of `--log_every`) and device.json in B/out.
`restore` makes of them what a run would have left, a checkpoint and metrics.csv; `compare` replays the first part.
"""

import itertools
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness


def config_of(words: list[str]):
    """The settings of the run that the flags of train.py spell."""
    from flags import FLAGS, as_flags, config_from_flags, define, flagfiles_first, flags, pretraining_groups

    for group in pretraining_groups().values():
        define(group)
    try:
        if rest := FLAGS(flagfiles_first(["train.py", *words]))[1:]:
            raise ValueError(f"Expected the flags of train.py after --. Received: {' '.join(rest)}")
        return config_from_flags()
    except (flags.Error, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: error: {as_flags(str(error))}")


def lower(bundle: Path, config) -> None:
    """Writes the bundle of a run."""
    import simclr_tf.quiet  # noqa: F401, I001
    import tensorflow as tf

    from simclr_tf import files
    from simclr_tf.tasks.pretrain import images_of
    from simclr_tf.tasks.resolutions import Resolutions

    if config.training.precision == "auto":
        sys.exit("gpu_bundle: error: --precision=auto cannot see the GPU: name one. Received: --precision=auto")
    if config.training.init_from:
        sys.exit("gpu_bundle: error: a bundle begins at initial weights. Received: --init_from")
    images = images_of(config)[1].array()
    steps, epochs, sides = len(images) // config.training.batch_size, config.training.epochs, config.training.sides
    side_of = Resolutions(sides, epochs).side if sides else (lambda epoch: None)
    parts: list[dict] = []
    for side, part in itertools.groupby(range(epochs), side_of):
        parts.append({"folder": str(side or "."), "last_step": steps * (max(part) + 1)})
    files.write_json(bundle / "config.json", config.to_dict())
    files.write_json(bundle / "bundle.json", {"seed": config.training.seed, "parts": parts})
    np.save(bundle / "images.npy", images)
    for side in dict.fromkeys(sides or (None,)):
        model = _model(config, images.shape)
        if side:
            model.views.resize(side)
        folder = bundle / str(side) if side else bundle
        folder.mkdir(parents=True, exist_ok=True)
        step = _step(model)
        spec = tf.TensorSpec([config.training.batch_size, *images.shape[1:]], tf.uint8)
        compiled = step.experimental_get_compiler_ir(spec)
        variables = _captured(model, step.get_concrete_function(spec))
        (folder / "step.hlo").write_bytes(compiled(stage="hlo_serialized"))
        described = describe(compiled(stage="hlo"), [variable.path for variable in variables], sorted(model.means))
        files.write_json(folder / "step.json", described)
        print(f"{folder}: {len(variables)} variables, {steps} steps an epoch, {epochs} epochs")
    arrays = {f"p{number}": variable.numpy() for number, variable in enumerate(variables, 1)}
    np.savez_compressed(bundle / "variables.npz", **arrays)  # the optimizer's are zeros


def describe(hlo: str, paths: list[str], metrics: list[str]) -> dict[str, list[dict]]:
    """Parameters and outputs of a step, from the header of its HLO.

    Args:
        hlo: HLO as text; its parameters are the images and then the variables.
        paths: Names of the variables, in order.
        metrics: Names of the first outputs, in order.

    Raises:
        ValueError: If the parameters or outputs are others.
    """
    header = hlo.splitlines()[0]
    layout = re.search(r"entry_computation_layout=\{\((.*?)\)->", header)
    shapes = re.findall(r"(\w+)\[([\d,]*)\]", re.sub(r"/\*.*?\*/", "", layout[1] if layout else ""))
    names = ["images", *paths]
    if len(shapes) != len(names):
        raise ValueError(
            f"Expected a step of {len(names)} parameters, the images and the variables. Received: {len(shapes)}"
        )
    parameters = [
        {"kind": "variable" if number else "images", "name": name, "shape": [int(n) for n in sides.split(",") if n],
         "dtype": _dtype(kind)}
        for number, (name, (kind, sides)) in enumerate(zip(names, shapes, strict=True))
    ]  # fmt: skip
    aliases = re.findall(r"\{(\d+)\}: \((\d+), \{\}", header)
    updated = {int(output): int(parameter) for output, parameter in aliases}
    outputs = [{"kind": "metric", "name": name} for name in metrics]
    for number in range(len(metrics), len(metrics) + len(updated)):
        if number not in updated:
            raise ValueError(f"Expected every output but the metrics to update a variable. Received: output {number}")
        outputs.append({"kind": "variable", "parameter": updated[number]})
    return {"parameters": parameters, "outputs": outputs}


def _dtype(kind: str) -> str:
    """NumPy's name of an HLO type."""
    letter, bits = re.fullmatch(r"([a-z]+)(\d*)", kind).groups()  # type: ignore[union-attr]
    return {"f": "float", "s": "int", "u": "uint", "pred": "bool"}[letter] + bits


def _model(config, image_shape):
    """The compiled model of the run, its optimizer built, at its initial weights."""
    import keras

    from simclr_tf.tasks.pretrain import compiled_model
    from simclr_tf.training.plan import make_plan

    keras.utils.set_random_seed(config.training.seed)
    plan = make_plan(config.training, config.optimization, image_shape[0], 0, replicas=1)
    return compiled_model(config, image_shape[1:], plan.rate)


def _step(model):
    """The train step as one program; its metrics are those of the step, not means since the beginning."""
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def step(images):
        for metric in model.metrics:
            metric.reset_state()
        return model.train_step(images)

    return step


def _captured(model, concrete) -> list:
    """The Keras variables that a traced step reads, in the order of its parameters."""
    kept = [*model.weights, *model.optimizer.variables, *(v for metric in model.metrics for v in metric.variables)]
    by_handle = {id(variable.value.handle): variable for variable in kept}
    return [by_handle[id(handle)] for handle in concrete.captured_inputs]


def batches(count: int, batch: int, seed: int, step: int = 0) -> Iterator[np.ndarray]:
    """The images' indices (batch,) of each step, from one on: a permutation an epoch, without its remainder."""
    while True:
        epoch, first = divmod(step, count // batch)
        order = np.random.default_rng([seed, epoch]).permutation(count)
        for position in range(first, count // batch):
            yield order[position * batch : (position + 1) * batch]
            step += 1


def without_copies(module: str) -> str:
    """A step as MLIR in StableHLO alone, all that JAX's plug-in for GPUs takes, which has no copies."""
    return re.sub(r"= mhlo\.copy (%\S+) : (tensor<.*?>)", r"= stablehlo.reshape \1 : (\2) -> \2", module)


def run(bundle: Path, steps: int, seconds: float, every: int) -> None:
    """Trains on JAX's first device to the end, until a step or for some time, from where the state is."""
    import jax

    jax.config.update("jax_enable_x64", True)  # the step counter is int64
    start, device, out = time.monotonic(), jax.devices()[0], bundle / "out"
    out.mkdir(exist_ok=True)
    plan, path = json.loads((bundle / "bundle.json").read_text()), out / "state.npz"
    with np.load(path if path.exists() else bundle / "variables.npz") as saved:
        step = int(saved["step"]) if "step" in saved else 0
        names = sorted((name for name in saved.files if name != "step"), key=lambda name: int(name[1:]))
        state = [jax.device_put(saved[name], device) for name in names]
    images = jax.device_put(np.load(bundle / "images.npy"), device)
    rows = logged(out, step)
    for part in plan["parts"]:
        last = min(part["last_step"], steps)
        if step < last and time.monotonic() < start + seconds:
            spec = json.loads((bundle / part["folder"] / "step.json").read_text())
            program = _compiled(bundle / part["folder"] / "step.hlo", device)
            print(
                f"{device.device_kind}: compiled after {time.monotonic() - start:.1f} s, from step {step}", flush=True
            )
            for row in _train(program, spec, images, state, plan["seed"], step, last, start + seconds, every):
                print(json.dumps(row), flush=True)
                rows.append(row)
                step = row["step"]
    # The log first: `logged` leaves out what is ahead of the state.
    log, temporary = path.with_name("log.tmp.jsonl"), path.with_name("state.tmp.npz")
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    log.replace(out / "log.jsonl")
    np.savez(temporary, step=step, **{name: np.asarray(value) for name, value in zip(names, state, strict=True)})
    temporary.replace(path)
    record = out / "device.json"
    before = json.loads(record.read_text())["seconds"] if record.exists() else 0.0
    took = round(before + time.monotonic() - start, 1)
    found = {"step": step, "seconds": took, "device": device.device_kind, "jax": jax.__version__}
    record.write_text(json.dumps(found))
    print(f"stopped at step {step} of {plan['parts'][-1]['last_step']}, after {took} s in all", flush=True)


def _train(program, spec, images, state: list, seed, step, last, deadline, every) -> Iterator[dict]:
    """Takes steps until the last or the deadline, which change `state`; yields the rows of the log."""
    import jax
    import jax.numpy as jnp

    batch = spec["parameters"][0]["shape"][0]
    epoch, first, before = len(images) // batch, step, step
    totals: dict[str, Any] = {}
    timed = (step, time.monotonic())
    for index in batches(len(images), batch, seed, step):
        results = program.execute([jnp.take(images, index, axis=0), *state])
        step += 1
        for output, value in zip(spec["outputs"], results, strict=True):
            if output["kind"] == "variable":
                state[output["parameter"] - 1] = value
            else:
                totals[output["name"]] = totals.get(output["name"], 0) + value
        over = step == last or time.monotonic() > deadline
        if over or step % epoch == 0 or (every and step % every == 0):
            row = {"step": step, "steps": step - before}
            row |= {name: float(np.mean(total)) / (step - before) for name, total in totals.items()}
            if step > timed[0]:
                row["images_per_second"] = round(batch * (step - timed[0]) / (time.monotonic() - timed[1]), 1)
            totals, before, timed = {}, step, (step, time.monotonic())
            yield row
        elif step == first + 1:  # which also fills caches
            jax.block_until_ready(state)
            timed = (step, time.monotonic())
        if over:
            return


def _compiled(path: Path, device):
    """The program of a step."""
    from jax._src.lib import xla_client

    hlo = xla_client.XlaComputation(path.read_bytes())
    module = without_copies(xla_client._xla.mlir.xla_computation_to_mlir_module(hlo))
    return device.client.compile_and_load(module, xla_client.DeviceList((device,)), xla_client.CompileOptions())


def logged(out: Path, step: int) -> list[dict]:
    """The rows of the log until a step; beyond the state's are those of a run that was killed."""
    path = out / "log.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in rows if row["step"] <= step]


def compare(bundle: Path) -> None:
    """Takes the logged steps again with TensorFlow, from the first, and prints the losses of both.

    Rounding differs, and training amplifies it: with the rates of a recipe the losses part by 1e-3 within 50 steps; at a
    tenth of the rate they stay equal to 1e-4.
    """
    import simclr_tf.quiet  # noqa: F401, I001
    import tensorflow as tf

    from simclr_tf.config import Config

    config, images = Config.load(bundle / "config.json"), np.load(bundle / "images.npy")
    first, sides = json.loads((bundle / "bundle.json").read_text())["parts"][0], config.training.sides
    rows = {row["step"]: row["loss"] for row in logged(bundle / "out", first["last_step"])}
    model = _model(config, images.shape)
    if sides:
        model.views.resize(sides[0])
    step = _step(model)
    largest, losses = 0.0, []
    for number, index in enumerate(batches(len(images), config.training.batch_size, config.training.seed), 1):
        losses.append(float(step(tf.constant(images[index]))["loss"]))
        if number in rows:
            loss, losses = statistics.fmean(losses), []
            largest = max(largest, abs(loss / rows[number] - 1))
            print(f"step {number}: {rows[number]:.6f} there, {loss:.6f} here")
        if number >= max(rows):
            break
    print(f"largest relative difference {largest:.1e}")


def restore(bundle: Path) -> None:
    """Makes a run of the state, with a checkpoint for `evaluate.py` and the log as its metrics."""
    import simclr_tf.quiet  # noqa: F401
    from simclr_tf.config import Config
    from simclr_tf.training import checkpoints, metrics
    from simclr_tf.training.plan import make_plan

    config, out = Config.load(bundle / "config.json"), bundle / "out"
    shape = np.load(bundle / "images.npy", mmap_mode="r").shape
    part = json.loads((bundle / "bundle.json").read_text())["parts"][0]["folder"]
    names = [parameter["name"] for parameter in json.loads((bundle / part / "step.json").read_text())["parameters"]]
    with np.load(out / "state.npz") as state:
        arrays = {name: state[f"p{number}"] for number, name in enumerate(names) if number}
        step = int(state["step"])
    model = _model(config, shape)
    saved = [*model.weights, *model.optimizer.variables]
    values = checkpoints.collect(saved)
    checkpoints.restore(saved, values | {path: array for path, array in arrays.items() if path in values})
    meta = {"step": step, "image_shape": list(shape[1:])}
    plan = make_plan(config.training, config.optimization, shape[0], 0, replicas=1)
    position = checkpoints.Position(*divmod(step, plan.steps_per_epoch))
    rows = epochs(logged(out, step), plan.steps_per_epoch, lambda step: float(plan.rate(step)))
    if rows:  # an epoch is complete
        metrics.write_rows(bundle / "metrics.csv", list(rows[0]), rows)
    print(checkpoints.save(bundle / "checkpoints", position, checkpoints.collect(saved), meta))


def epochs(rows: Sequence[Mapping], steps: int, rate: Callable[[int], float]) -> list[dict]:
    """The rows of metrics.csv, one for each epoch that was finished.

    Args:
        rows: Rows of log.jsonl, none of which reaches from an epoch into the next.
        steps: Steps of an epoch.
        rate: The learning rate of a step, counted from 0.
    """
    found = []
    for epoch in range(1, rows[-1]["step"] // steps + 1 if rows else 1):
        parts = [row for row in rows if (epoch - 1) * steps < row["step"] <= epoch * steps]
        names = sorted(
            set(parts[0]) - {"step", "steps", "skipped", "images_per_second"}, key=lambda n: (n != "loss", n)
        )
        mean = {name: sum(part["steps"] * part[name] for part in parts) / steps for name in names}
        timed = [part for part in parts if "images_per_second" in part]
        seconds = sum(part["steps"] / part["images_per_second"] for part in timed)
        speed = sum(part["steps"] for part in timed) / seconds if timed else None
        found.append(
            {"epoch": epoch, "step": epoch * steps, **mean, "learning_rate": rate(epoch * steps - 1),
             "images_per_second": speed}
        )  # fmt: skip
    return found


COMMANDS = ("lower", "run", "compare", "restore")


def main() -> None:
    """One of the commands."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    command, options, flags = "".join(words[:1]), words[1:cut], words[cut + 1 :]
    if command not in COMMANDS:
        options = words[:cut]  # such as --help
    args = harness.arguments(__doc__, options, shows=False, bundle="", steps=sys.maxsize, seconds=1e9, log_every=0)
    if command not in COMMANDS or not args.bundle:
        sys.exit(f"gpu_bundle: error: expected one of {', '.join(COMMANDS)} and --bundle=FOLDER. Received: {words}")
    bundle = Path(args.bundle)
    if command == "lower":
        lower(bundle, config_of(flags))
    elif command == "run":
        run(bundle, args.steps, args.seconds, args.log_every)
    elif not (bundle / "out" / "state.npz").exists():
        sys.exit(f"gpu_bundle: error: expected a bundle that `gpu_bundle run` was run on. Received: --bundle={bundle}")
    else:
        {"compare": compare, "restore": restore}[command](bundle)


if __name__ == "__main__":
    main()
