"""Evaluates a run: python launch/evaluate.py knn --workdir=runs/mmae-1a2b3c4d.

  features  features of both splits, as an .npz
  knn       weighted k nearest neighbours
  linear    logistic regression, or with --form=probe the papers' linear probe

on the run's own data, on a folder of images (--data.folder) or on a tfds data
set (--data.name). Appends a line to evaluations.jsonl in the run's folder.
"""

import argparse
import sys

from mmae_jax import command_line


def parser() -> argparse.ArgumentParser:
  """The command line; what is not given is as the run's config says."""
  p = command_line.argument_parser(__doc__)
  p.add_argument("kind", choices=["features", "knn", "linear"])
  p.add_argument("--workdir", required=True, help="a run, or one checkpoint")
  p.add_argument("--step", type=int, help="default: the newest checkpoint")
  p.add_argument(
    "--checkpoint", default="student", choices=["student", "teacher"]
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
  arguments = vars(parser().parse_args())
  data = {
    name.removeprefix("data."): arguments.pop(name)
    for name in list(arguments)
    if name.startswith("data.")
  }
  workdir = arguments.pop("workdir")
  from mmae_jax.types import UsageError

  try:
    from mmae_jax.train import distributed

    distributed.initialise(arguments.pop("distributed"))
    from mmae_jax.evaluate import command

    command.evaluate(
      arguments.pop("kind"),
      workdir,
      step=arguments.pop("step"),
      evaluated=arguments.pop("checkpoint"),
      out=arguments.pop("out"),
      data=data,
      settings=arguments,
    )
  except UsageError as error:
    message = str(error).replace("--config.evaluation.", "--")
    message = message.replace("--config.data.", "--data.")
    flag = "--workdir=" if message.startswith(workdir) else ""
    sys.exit(f"error: {flag}{message}")
  except KeyboardInterrupt:
    sys.exit(130)


if __name__ == "__main__":
  main()
