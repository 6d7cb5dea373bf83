"""Evaluates a run: python launch/evaluate.py knn --workdir=runs/mmae-1a2b3c4d.

  features  features of both splits, as an .npz
  knn       weighted k nearest neighbours
  linear    logistic regression, or with --form=probe the papers' linear probe
  information   entropies, mutual information and rank of both branches, for
            every kept checkpoint

on the run's own data, on a folder of images (--data.folder) or on a tfds data
set (--data.name). Appends a line to evaluations.jsonl in the run's folder.
"""

import argparse
import sys

from mmae_jax import command_line

_KINDS = ["features", "knn", "linear", "information"]


def parser() -> argparse.ArgumentParser:
  """The command line; what is not given is as the run's config says."""
  p = command_line.argument_parser(__doc__)
  p.add_argument("kind", choices=_KINDS)
  p.add_argument("--workdir", required=True, help="a run, or one checkpoint")
  p.add_argument("--step", type=int, help="default: the newest checkpoint")
  p.add_argument(
    "--checkpoints", help="of information: all (default), last, or a step"
  )
  p.add_argument(
    "--checkpoint",
    choices=["student", "teacher"],
    help="default: the run's evaluation.network",
  )
  p.add_argument("--out", default="", help="of features: path of the .npz")
  p.add_argument("--distributed", default="auto", choices=["on", "off", "auto"])
  data = p.add_argument_group("data, default: the run's")
  for name in ("folder", "name", "dir", "train_split", "test_split"):
    data.add_argument(f"--data.{name}")
  settings = p.add_argument_group("settings, default: the run's")
  settings.add_argument("--pool", choices=["cls", "mean"])
  settings.add_argument("--layer", type=int, help="-1 is the last block")
  settings.add_argument("--batch_size", type=int, help="of the extraction")
  settings.add_argument("--plane.size", type=int, help="images of information")
  settings.add_argument(
    "--plane.sample_rows", type=int, help="those whose eigenvalues are taken"
  )
  settings.add_argument("--knn.k", type=int)
  settings.add_argument("--knn.temperature", type=float)
  settings.add_argument(
    "--form", dest="linear.form", choices=["logistic", "probe"]
  )
  for name, kind in (
    ("c", float),
    ("optimizer", str),
    ("base_learning_rate", float),
    ("batch_size", int),
    ("epochs", int),
    ("warmup_epochs", int),
    ("weight_decay", float),
    ("bn_group_size", int),
  ):
    settings.add_argument(f"--linear.{name}", type=kind)
  return p


def main() -> None:
  commands = parser()
  arguments = vars(commands.parse_args())
  data = {
    name.removeprefix("data."): arguments.pop(name)
    for name in list(arguments)
    if name.startswith("data.")
  }
  take = arguments.pop
  kind, workdir, mode = take("kind"), take("workdir"), take("distributed")
  step, evaluated, out = take("step"), take("checkpoint"), take("out")
  checkpoints = take("checkpoints")
  measures = kind == "information"
  if measures and (step is not None or evaluated or out):
    commands.error(
      "information takes --checkpoints, and neither --step, --checkpoint nor"
      " --out: its branches are the objective's"
    )
  if checkpoints is not None and not measures:
    commands.error(f"--checkpoints={checkpoints}: {kind} takes --step")
  from mmae_jax.types import UsageError

  try:
    from mmae_jax.train import distributed

    distributed.initialise(mode)
    from mmae_jax import objectives
    from mmae_jax.evaluate import command, trajectory

    if measures:
      trajectory.evaluate(
        workdir,
        select=objectives.select,
        checkpoints=checkpoints,
        data=data,
        settings=arguments,
      )
    else:
      command.evaluate(
        kind,
        workdir,
        step=step,
        evaluated=evaluated,
        out=out,
        data=data,
        settings=arguments,
      )
  except UsageError as error:
    message = str(error).replace("--config.evaluation.", "--")
    for section in ("data", "plane"):
      message = message.replace(f"--config.{section}.", f"--{section}.")
    flag = "--workdir=" if message.startswith(workdir) else ""
    sys.exit(f"error: {flag}{message}")
  except KeyboardInterrupt:
    sys.exit(130)


if __name__ == "__main__":
  main()
