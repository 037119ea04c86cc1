"""Runs a study: `python -m simclr_tf.studies NAME [options] [flags of train.py]`.

    python -m simclr_tf.studies temperature --flagfile=flags/recipes/cifar10_cpu.cfg --data_dir=DIR --epochs=10
    python -m simclr_tf.studies augmentation_pairs --only=crop,color,blur --seeds=3 --dry_run

Started again, it goes on where it was: finished runs are not run again, half-finished ones are resumed.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from simclr_tf.config import MODES
from simclr_tf.studies import STUDIES, estimate, settings
from simclr_tf.studies.execution import Environment, environments, execute
from simclr_tf.studies.runs import Run, plan
from simclr_tf.studies.study import Study


def parser() -> argparse.ArgumentParser:
    """The study's own options; every other flag is one of `train.py`."""
    made = argparse.ArgumentParser(
        prog="python -m simclr_tf.studies",
        description="Runs a study of the paper; flags of train.py apply to all of its runs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("name", choices=sorted(STUDIES), help="which study")
    made.add_argument("--runs_dir", default="runs/studies", help="folder; the study gets RUNS_DIR/NAME")
    made.add_argument("--report_dir", help="folder for NAME.csv, NAME.md and NAME.png, instead of RUNS_DIR/NAME")
    made.add_argument("--seeds", type=int, default=1, help="how often to repeat each cell, from --seed on")
    made.add_argument("--jobs", type=int, default=1, help="runs at once")
    made.add_argument("--gpus", default="", help="CUDA devices to deal out to the jobs, like 0,1")
    made.add_argument("--only", default="", help="labels, like yes,0.1,0.5: run the cells that have no others")
    made.add_argument("--mode", default="linear", choices=[m for m in MODES if m != "export"], help="of evaluate.py")
    made.add_argument("--dry_run", action="store_true", help="print the cells, the expected time and memory, and stop")
    return made


def main(words: Sequence[str]) -> int:
    """Runs the command line; returns the exit code.

    Raises:
        ValueError: on settings that are wrong; nothing is run then.
    """
    options, rest = parser().parse_known_args(words)
    study, folder = STUDIES[options.name], Path(options.runs_dir) / options.name
    given = settings.parse(rest)
    runs = plan(study, given, folder, options.seeds, options.mode, _listed(options.only))
    places = environments(options.jobs, _listed(options.gpus))
    if options.dry_run:
        return forecast(runs, places)
    command = f"python -m simclr_tf.studies {shlex.join(words)}"
    stem = Path(options.report_dir) / options.name if options.report_dir else folder / "results"
    if options.mode != "linear":
        stem = stem.with_name(f"{stem.name}-{options.mode}")
    count = sum(run.state() == "done" for run in runs)
    print(f"{options.name}: {count} of {len(runs)} runs are done in {folder}", flush=True)

    def progress(run: Run, error: Exception | None) -> None:
        nonlocal count
        count += error is None
        outcome = f"failed: {error}" if error else f"top-1 {run.measures()['top1']:.1f} %"
        print(f"[{count}/{len(runs)}] {run.name}: {outcome}", flush=True)
        if error is None:
            report(study, runs, command, folder, stem)

    failed = execute(runs, places, progress)
    if not count:
        return 1
    report(study, runs, command, folder, stem)
    print(stem.with_suffix(".md").read_text())
    print(*(stem.with_suffix(suffix) for suffix in (".csv", ".md", ".png")), sep="\n")
    return 1 if failed else 0


def _listed(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def report(study: Study, runs: Sequence[Run], command: str, folder: Path, stem: Path) -> None:
    """Writes the tables, the figure and the HParams of what is done so far."""
    # Imported when they are needed: a dry run needs neither TensorFlow nor matplotlib.
    import simclr_tf.quiet  # noqa: F401, I001
    from simclr_tf.studies import figures, hparams, results

    results.write_csv(study, runs, stem.with_suffix(".csv"))
    figures.draw(study, results.summarize(study, runs), stem.with_suffix(".png"), results.parameters(study, runs))
    results.write_markdown(study, runs, command, f"{stem.name}.png", stem.with_suffix(".md"))
    hparams.write(study, runs, folder / "tensorboard")


def forecast(runs: Sequence[Run], places: Sequence[Environment]) -> int:
    """Prints a dry run; returns the exit code."""
    costs = estimate.costs(runs, places[0], lambda line: print(line, flush=True))
    total, most, unknown = 0.0, 0.0, 0
    for run in runs:
        cost = costs.get(estimate.kind(run)) if run.state() != "done" else None
        if isinstance(cost, estimate.Cost):
            seconds = cost.seconds(run)
            total, most = total + seconds, max(most, cost.mib)
            print(f"{run.state():6} {run.name}: {_time(seconds)}, {cost.mib:.0f} MiB")
        else:
            unknown += cost is not None
            print(f"{run.state():6} {run.name}{f': {cost}' if cost else ''}")
    print(f"first:  python train.py {shlex.join(settings.words(runs[0].flags))} --run_dir={runs[0].folder}")
    print(
        f"in all: {_time(total / len(places))} with --jobs={len(places)}, which leaves out all validations but the first "
        f"and counts begun runs as whole; at most {most:.0f} MiB of the host's memory a job"
        + (f"; without {unknown} of {len(runs)} runs, which failed" if unknown else "")
    )
    return 1 if unknown else 0


def _time(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _stop(*_) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(f"studies: error: {error}")
    except KeyboardInterrupt:
        sys.exit("studies: interrupted; the same command goes on")
