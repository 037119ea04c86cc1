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

and config.json, which makes the folder one of a run. With `--resolutions` B has a folder for each side with the first
three files, to be run one after the other with the same `--out`; `compare` replays the first of them. `run` shuffles the
images of each epoch by (seed, epoch), drops the remainder, and keeps state.npz, log.jsonl (a row each `--log_every`
steps, or epoch, with means over its steps) and device.json in `--out`, which is B/out if not given. `restore` writes of
them what a run would have left, a checkpoint and metrics.csv.
"""

import itertools
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import harness


def config_of(words: list[str]):
    """The settings of the run that the flags of train.py spell."""
    from flags import FLAGS, config_from_flags, define, flagfiles_first, pretraining_groups

    for group in pretraining_groups().values():
        define(group)
    FLAGS(flagfiles_first(["train.py", *words]))
    return config_from_flags()


def lower(bundle: Path, config) -> None:
    """Writes the bundle of a run."""
    import simclr_tf.quiet  # noqa: F401, I001
    import tensorflow as tf

    from simclr_tf import files
    from simclr_tf.tasks.pretrain import images_of

    if config.training.precision == "auto":
        sys.exit("gpu_bundle: error: --precision=auto cannot see the GPU: name one. Received: --precision=auto")
    if config.training.init_from:
        sys.exit("gpu_bundle: error: a bundle begins at initial weights. Received: --init_from")
    images = images_of(config)[1].array()
    files.write_json(bundle / "config.json", config.to_dict())
    np.save(bundle / "images.npy", images)
    for side in config.training.sides or (None,):
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
        files.write_json(folder / "step.json", {"seed": config.training.seed, **described})
        arrays = {f"p{number}": variable.numpy() for number, variable in enumerate(variables, 1)}
        np.savez_compressed(folder / "variables.npz", **arrays)  # the optimizer's are zeros
        steps = len(images) // config.training.batch_size
        print(f"{folder}: {len(variables)} variables, {steps} steps an epoch, {config.training.epochs} epochs")


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

    from simclr_tf.optimizers import make_optimizer
    from simclr_tf.tasks.pretrain import build_model
    from simclr_tf.training.plan import make_plan

    keras.utils.set_random_seed(config.training.seed)
    model = build_model(config, image_shape[1:])
    plan = make_plan(config.training, config.optimization, image_shape[0], 0, replicas=1)
    variables, precision = model.trainable_variables, config.training.precision
    model.compile(make_optimizer(config.optimization, plan.rate, variables, precision))
    return model


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


def run(bundle: Path, out: Path, steps: int, seconds: float, every: int) -> None:
    """Trains on JAX's first device until a step or for some time, from where the state in `out` is."""
    import jax
    import jax.numpy as jnp
    from jax._src.lib import xla_client

    jax.config.update("jax_enable_x64", True)  # the step counter is int64
    start, device = time.monotonic(), jax.devices()[0]
    spec = json.loads((bundle / "step.json").read_text())
    module = xla_client._xla.mlir.xla_computation_to_mlir_module(
        xla_client.XlaComputation((bundle / "step.hlo").read_bytes())
    )
    program = device.client.compile_and_load(
        without_copies(module), xla_client.DeviceList((device,)), xla_client.CompileOptions()
    )
    images = jax.device_put(np.load(_home(bundle) / "images.npy"), device)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "state.npz"
    with np.load(path if path.exists() else bundle / "variables.npz") as saved:
        step = first = int(saved["step"]) if "step" in saved else 0
        state = [jax.device_put(saved[f"p{number}"], device) for number in range(1, len(spec["parameters"]))]
    print(f"{device.device_kind}: compiled in {time.monotonic() - start:.1f} s, from step {step}", flush=True)
    batch = spec["parameters"][0]["shape"][0]
    every = every or len(images) // batch
    totals, logged, mark = {}, step, (step, time.monotonic())
    with (out / "log.jsonl").open("a") as log:
        for index in batches(len(images), batch, spec["seed"], step):
            over = step >= steps or time.monotonic() - start > seconds
            if step > logged and (over or step % every == 0):
                row = {"step": step, "steps": step - logged, "bundle": bundle.resolve().name}
                row |= {name: float(np.mean(total)) / (step - logged) for name, total in totals.items()}
                now = time.monotonic()
                if step > mark[0]:
                    row["images_per_second"] = round(batch * (step - mark[0]) / (now - mark[1]), 1)
                totals, logged, mark = {}, step, (step, now)
                print(json.dumps(row), flush=True)
                log.write(json.dumps(row) + "\n")
            if over:
                break
            results = program.execute([jnp.take(images, index, axis=0), *state])
            step += 1
            for output, value in zip(spec["outputs"], results, strict=True):
                if output["kind"] == "variable":
                    state[output["parameter"] - 1] = value
                else:
                    totals[output["name"]] = totals.get(output["name"], 0) + value
            if step == first + 1:  # which also fills caches
                jax.block_until_ready(state)
                mark = (step, time.monotonic())
    temporary = path.with_name("state.tmp.npz")
    np.savez(temporary, step=step, **{f"p{number}": np.asarray(value) for number, value in enumerate(state, 1)})
    temporary.replace(path)
    record, known = out / "device.json", {"seconds": 0.0}
    if record.exists():
        known = json.loads(record.read_text())
    known |= {"device": device.device_kind, "jax": jax.__version__}
    known["seconds"] = round(known["seconds"] + time.monotonic() - start, 1)
    record.write_text(json.dumps(known))
    print(f"stopped at step {step}, after {known['seconds']} s in all", flush=True)


def _home(bundle: Path) -> Path:
    """The folder of the run: the bundle's own, or the one above where there is a bundle for each side."""
    return bundle if (bundle / "config.json").exists() else bundle.parent


def compare(bundle: Path, out: Path) -> None:
    """Takes the logged steps again with TensorFlow, from the first, and prints the losses of both.

    Rounding differs, and training amplifies it: with the rates of a recipe the losses part by 1e-3 within 50 steps; at a
    tenth of the rate they stay equal to 1e-4.
    """
    import simclr_tf.quiet  # noqa: F401, I001
    import tensorflow as tf

    from simclr_tf.config import Config

    config, images = Config.load(_home(bundle) / "config.json"), np.load(_home(bundle) / "images.npy")
    sides = config.training.sides
    if sides and bundle.resolve().name != str(sides[0]):
        sys.exit(f"gpu_bundle: error: {sides[0]} can be compared, which begins the run. Received: --bundle={bundle}")
    logged = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    first = itertools.takewhile(lambda row: row["bundle"] == logged[0]["bundle"], logged)
    rows = {row["step"]: row["loss"] for row in first}
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


def restore(bundle: Path, out: Path) -> None:
    """Makes a run of the state, with a checkpoint for `evaluate.py` and the log as its metrics."""
    import simclr_tf.quiet  # noqa: F401
    from simclr_tf.config import Config
    from simclr_tf.training import checkpoints, metrics
    from simclr_tf.training.plan import make_plan

    home = _home(bundle)
    config = Config.load(home / "config.json")
    shape = np.load(home / "images.npy", mmap_mode="r").shape
    names = [parameter["name"] for parameter in json.loads((bundle / "step.json").read_text())["parameters"]]
    with np.load(out / "state.npz") as state:
        arrays = {name: state[f"p{number}"] for number, name in enumerate(names) if number}
        step = int(state["step"])
    model = _model(config, shape)
    saved = [*model.weights, *model.optimizer.variables]
    values = checkpoints.collect(saved)
    checkpoints.restore(saved, values | {path: array for path, array in arrays.items() if path in values})
    meta = {"step": step, "image_shape": list(shape[1:])}
    plan = make_plan(config.training, config.optimization, shape[0], 0, replicas=1)
    logged = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    rows = epochs(logged, plan.steps_per_epoch, lambda step: float(plan.rate(step)))
    metrics.write_rows(home / "metrics.csv", list(rows[0]), rows)
    print(checkpoints.save(home / "checkpoints", checkpoints.Position(len(rows)), checkpoints.collect(saved), meta))


def epochs(logged: Sequence[Mapping], steps: int, rate: Callable[[int], float]) -> list[dict]:
    """The rows of metrics.csv, one for each epoch that was finished.

    Args:
        logged: Rows of log.jsonl, none of which reaches from an epoch into the next.
        steps: Steps of an epoch.
        rate: The learning rate of a step, counted from 0.
    """
    kept = set(logged[0]) - {"step", "steps", "bundle", "skipped", "images_per_second"}
    names = sorted(kept, key=lambda name: (name != "loss", name))
    rows = []
    for epoch in range(1, logged[-1]["step"] // steps + 1):
        parts = [row for row in logged if (epoch - 1) * steps < row["step"] <= epoch * steps]
        mean = {name: sum(part["steps"] * part[name] for part in parts) / steps for name in names}
        speeds = [part["images_per_second"] for part in parts if "images_per_second" in part]
        rows.append(
            {"epoch": epoch, "step": epoch * steps, **mean, "learning_rate": rate(epoch * steps - 1),
             "images_per_second": statistics.fmean(speeds) if speeds else None}
        )  # fmt: skip
    return rows


COMMANDS = ("lower", "run", "compare", "restore")


def main() -> None:
    """One of the commands."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    command, options, flags = "".join(words[:1]), words[1:cut], words[cut + 1 :]
    if command not in COMMANDS:
        options = words[:cut]  # such as --help
    args = harness.arguments(__doc__, options, bundle="", out="", steps=sys.maxsize, seconds=1e9, log_every=0)
    if command not in COMMANDS or not args.bundle:
        sys.exit(f"gpu_bundle: error: expected one of {', '.join(COMMANDS)} and --bundle=FOLDER. Received: {words}")
    bundle = Path(args.bundle)
    out = Path(args.out or bundle / "out")
    if command == "lower":
        lower(bundle, config_of(flags))
    elif command == "run":
        run(bundle, out, args.steps, args.seconds, args.log_every)
    else:
        {"compare": compare, "restore": restore}[command](bundle, out)


if __name__ == "__main__":
    main()
