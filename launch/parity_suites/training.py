"""The suite `training`: five methods trained here and in PyTorch.

One side is launch/train.py as it is, on the embedded digits in float32; the
other is tests/torch_reference, which is given the same initial weights, views
and mask noise and does the rest alone. The first steps in float64 tell a
mistake from rounding. What is finished is kept in the folder and not repeated:
another folder measures anew.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import copy
import functools
import json
import math
import pathlib
from typing import Any

import jax
import numpy as np

from mmae_jax.report.quantities import method_name
from parity_suites import feed as feed_lib, runs as runs_lib, training_report
from parity_suites.rows import OURS, Row, compared, error, tree_errors

SUITE = "training"
EPOCHS = {"mae": 30, "umae": 30, "mmae": 30, "simclr": 10, "matrix_ssl": 10}
# Relative differences of the losses: how far float32 may be apart in the first
# steps, and float64, in which the gradient's norm and the weights count too.
FIRST_STEPS = 20
FIRST_TOLERANCE = {
  **{method: 1e-4 for method in ("mae", "umae", "mmae")},
  # Branches that begin at 0, BatchNorm and Adam enlarge rounding at once.
  **{method: 1e-2 for method in ("simclr", "matrix_ssl")},
}
WIDE_TOLERANCE = 1e-9
# Of all losses of the masked methods, over warm-up and cosine; the other two
# are parted by rounding before the cosine begins.
WHOLE_TOLERANCE = 1e-3
_MASKED = ("mae", "umae", "mmae")
_FEATURES_TOLERANCE = 1e-5
PARTINGS = (1e-5, 1e-3)
_KINDS = {"linear": "linear accuracy", "knn": "k-NN accuracy"}


def compare(
  out: Any,
  *,
  methods: Sequence[str] = tuple(EPOCHS),
  seeds: Sequence[int] = (0, 1, 2),
  epochs: float | None = None,
  say: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Trains both sides; writes training.json, training.md and training.png.

  Args:
    out: a folder; what is finished in it is not repeated.
    methods: keys of `EPOCHS`.
    seeds: of the runs, two or more.
    epochs: of all methods; None is those of `EPOCHS`.
    say: prints a line.
  Returns:
    The content of training.json: "setting"; "wide", the differences in float64
    by method; "runs"; "accuracies", as of `accuracies`, by method.
  Raises:
    UsageError: launch/train.py failed, or what is kept is of other code.
  """
  out = pathlib.Path(out).absolute()
  out.mkdir(parents=True, exist_ok=True)
  runs_lib.claim(out, training_report.setting())
  jax.config.update("jax_compilation_cache_dir", str(out / "jax_cache"))
  wide, runs = {}, []
  for method in methods:
    length = epochs or EPOCHS[method]
    folders = {
      seed: out / f"{method}-{length:g}-epochs-seed{seed}" for seed in seeds
    }
    for seed, folder in folders.items():
      run = _run(folder, method, seed, length, say)
      runs.append(run)
      say(
        f"{method} seed {seed}: linear {run['linear']['jax']:.4f} JAX,"
        f" {run['linear']['torch']:.4f} PyTorch; first {FIRST_STEPS} losses"
        f" within {run['first']:.1e}, control {run['control']:.1e}"
      )
    wide[method] = runs_lib.kept(
      folders[seeds[0]] / "float64.json",
      lambda folder=folders[seeds[0]]: check_in_float64(
        runs_lib.read_config(folder / "jax")
      ),
    )
    say(f"{method} in float64: {wide[method]}")
  result = {
    "setting": training_report.setting(),
    "wide": wide,
    "runs": runs,
    "accuracies": {m: accuracies(runs, m) for m in methods},
  }
  (out / "training.json").write_text(json.dumps(result))
  (out / "training.md").write_text(training_report.table(result))
  (out / "training.png").write_bytes(training_report.figure(result))
  return result


def rows(result: Mapping[str, Any]) -> Iterator[Row]:
  """The rows of a comparison.

  Args:
    result: of `compare`.
  Yields:
    Of each method: the first steps in float64, those in float32, the features
    of converted weights, and both accuracies.
  """
  for method, wide in result["wide"].items():
    runs = [run for run in result["runs"] if run["method"] == method]
    make = functools.partial(compared, SUITE, other=OURS)
    name = method_name(method)
    yield make(
      f"{name}: {wide['steps']} steps",
      precision="float64",
      errors={key: wide[key] for key in ("loss", "gradient", "weights")},
      tolerance=WIDE_TOLERANCE,
      note="rounding grows step by step; a decay 1 % larger is 10 times as far",
    )
    control = max(run["control"] for run in runs)
    yield make(
      f"{name}: first {FIRST_STEPS} losses",
      precision="float32",
      errors={f"seed {run['seed']}": run["first"] for run in runs},
      tolerance=FIRST_TOLERANCE[method],
      note="in the warm-up; a last bit of the weights alone parts PyTorch by"
      f" {control:.1e}",
    )
    if method in _MASKED:
      yield make(
        f"{name}: all losses",
        precision="float32",
        errors={f"seed {run['seed']}": run["largest"] for run in runs},
        tolerance=WHOLE_TOLERANCE,
        note=f"{runs[0]['steps']} steps, warm-up and cosine",
      )
    yield make(
      f"{name}: features of its weights in our network",
      precision="float32",
      errors={f"seed {run['seed']}": run["features"] for run in runs},
      tolerance=_FEATURES_TOLERANCE,
    )
    for kind, title in _KINDS.items():
      found = result["accuracies"][method][kind]
      yield make(
        f"{name}: {title}, mean over {len(runs)} seeds",
        precision="float32",
        errors=found["difference"],
        tolerance=found["spread"],
        note=f"absolute; {found['jax']:.3f} here, {found['torch']:.3f} there;"
        " the tolerance is the spread of PyTorch's over the seeds",
      )


def check_in_float64(
  config: Any, *, steps: int = FIRST_STEPS
) -> dict[str, float]:
  """Largest relative differences of the first steps in float64.

  Args:
    config: of a run.
    steps: how many.
  Returns:
    "loss", "gradient" (its norm) and "weights": of each tensor the norm of the
    difference, over its own plus a thousandth of that of all tensors.
  """
  # The cosine begins within the steps, of which it has its end.
  config = copy.deepcopy(config)
  config.optimizer.warmup_epochs = min(config.optimizer.warmup_epochs, 0.2)
  with jax.enable_x64(True):
    feed = feed_lib.Feed(config)
    theirs = runs_lib.make_trainer(config, feed)
    batches = list(feed.batches(steps))
    worst = {"steps": steps, "loss": 0.0, "gradient": 0.0}
    for batch, (loss, norm, state) in zip(  # noqa: B007
      batches, feed.train(iter(batches)), strict=True
    ):
      seen = theirs.step(batch["global"], batch["noise"])
      for name, a, b in zip(
        ("loss", "gradient"), (loss, norm), seen, strict=True
      ):
        worst[name] = max(worst[name], error(a, b))
    got, expected = feed.tensors(state), theirs.tensors()
  names = [n for n in expected if not n.endswith("num_batches_tracked")]
  errors = tree_errors(
    {n: got[n] for n in names}, {n: expected[n] for n in names}
  )
  return worst | {"weights": max(errors.values())}


def accuracies(
  runs: Sequence[Mapping[str, Any]], method: str
) -> dict[str, dict[str, float]]:
  """Final accuracies of a method in both programs.

  Args:
    runs: of all methods.
    method: the one to judge.
  Returns:
    "linear" and "knn": the means over the seeds "jax" and "torch", their
    "difference", and the "spread": the largest less the smallest accuracy of
    PyTorch over the seeds.
  """
  result = {}
  for kind in _KINDS:
    values = {
      side: [r[kind][side] for r in runs if r["method"] == method]
      for side in ("jax", "torch")
    }
    means = {side: float(np.mean(v)) for side, v in values.items()}
    result[kind] = {
      **means,
      "difference": abs(means["jax"] - means["torch"]),
      "spread": float(np.ptp(values["torch"])),
    }
  return result


def _run(folder, method, seed, epochs, say):
  """One run on both sides: the losses, how far apart, the accuracies."""
  from parity_suites import probe

  ours, seconds = runs_lib.train_ours(folder, method, seed=seed, epochs=epochs)
  say(f"{method} seed {seed}: {len(ours)} steps here; now PyTorch")
  theirs = runs_lib.kept(
    folder / "torch.json", lambda: runs_lib.train_theirs(folder)
  )
  control = runs_lib.kept(
    folder / "control.json",
    lambda: runs_lib.train_theirs(folder, nudged=True),
  )["losses"]
  found = runs_lib.kept(
    folder / "accuracies.json",
    lambda: probe.accuracies(folder, runs_lib.read_config(folder / "jax")),
  )
  apart = _apart(ours, theirs["losses"])
  last = theirs["steps_per_epoch"]

  def beyond(limit):
    return next((i for i, x in enumerate(apart, 1) if x > limit), 0)

  def mean(values):
    return sum(values[-last:]) / last

  return {
    "method": method,
    "seed": seed,
    "epochs": epochs,
    "steps": len(ours),
    "first": max(apart[:FIRST_STEPS]),
    "largest": max(apart),
    "control": max(_apart(control, theirs["losses"])[:FIRST_STEPS]),
    "parts_at": {str(limit): beyond(limit) for limit in PARTINGS},
    "final_loss": {"jax": mean(ours), "torch": mean(theirs["losses"])},
    **found,
    "seconds": {"jax": seconds, "torch": theirs["seconds"]},
    "losses": {"jax": ours, "torch": theirs["losses"], "control": control},
  }


def _apart(losses, expected):
  """Relative difference of each step; inf where one is not finite (None)."""
  pairs = zip(losses, expected, strict=True)
  return [error(*(math.nan if x is None else x for x in p)) for p in pairs]
