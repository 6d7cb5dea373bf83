"""Equality with PyTorch: python launch/parity.py --out=FOLDER

Writes FOLDER/parity.json and FOLDER/parity.html, prints the rows in short, and
exits with 1 if one of them failed. A row says what was compared, with what, in
which precision, the tolerance asked, the error reached, and the verdict.

models       networks with the weights of transformers, timm and torchvision
             (where these import): layer by layer, loss, gradient by tensor
optimizers   100 steps of AdamW, SGD and LARS on the same data and noise;
             schedules, moving averages, BatchNorm's running statistics
losses       every loss and the matrix information against PyTorch expressions
             of their formulas, on random, collapsed, huge and tiny inputs, and
             more dimensions than rows
images       resizing and colour against Pillow; k-NN and linear evaluation of
             equal features
training     with --train: MAE, U-MAE, M-MAE, SimCLR and Matrix-SSL trained here
             and in PyTorch from equal weights, views and noise, three seeds;
             what is finished in FOLDER/training is not repeated (20 minutes)

python launch/parity.py --out=runs/parity --only=losses,images
python launch/parity.py --out=runs/parity --only=models --full
python launch/parity.py --out=runs/parity --train

It runs on the CPU, where float32 is float32 in both programs. XLA leaves the
small programs' machine code plain, as in the tests, unless XLA_FLAGS is set
(XLA_FLAGS=--xla_backend_optimization_level=3 is what users have). `--full` adds
ViT-B/16, ViT-L/16 (float32) and ResNet-50 in their published sizes, optimised:
three minutes and 7 GiB of memory.
"""

import importlib
import os
import pathlib
import sys

from mmae_jax import command_line

SUITES = ("models", "optimizers", "losses", "images")

# Compiling takes a third of the time so. Flags that are given win, and full
# size has what users have.
_PLAIN_CODE = (
  "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)
_TESTS = pathlib.Path(__file__).resolve().parents[1] / "tests"

os.environ["JAX_PLATFORMS"] = "cpu"


def parser():
  """The command line."""
  p = command_line.argument_parser(__doc__)
  p.add_argument("--out", required=True, help="folder of the report")
  p.add_argument(
    "--only",
    default=",".join(SUITES),
    help=f"suites, out of {', '.join(SUITES)}",
  )
  p.add_argument(
    "--full", action="store_true", help="networks in full size besides"
  )
  p.add_argument(
    "--train", action="store_true", help="training of five methods besides"
  )
  return p


def _chosen(only):
  from mmae_jax.types import UsageError

  names = [name.strip() for name in only.split(",") if name.strip()]
  unknown = [name for name in names if name not in SUITES]
  if unknown or not names:
    raise UsageError(
      f"--only={only}: must be one or more of {', '.join(SUITES)}"
    )
  return [name for name in SUITES if name in names]


def _require_torch(full):
  from mmae_jax.types import UsageError

  try:
    torch = importlib.import_module("torch")
  except (ImportError, OSError) as error:  # OSError: a library of it is missing
    raise UsageError(
      'parity is equality with PyTorch: pip install "mmae_jax[torch]"'
      f" ({error})"
    ) from error
  # Its threads and those of XLA wait for one another: a step took ten times as
  # long. Full size is worth them.
  if not full:
    torch.set_num_threads(1)
  # tests/torch_reference is what no other program has.
  if str(_TESTS) not in sys.path:
    sys.path.append(str(_TESTS))


def main(argv=None) -> int:
  """Runs the suites; returns the exit code."""
  arguments = parser().parse_args(argv)
  from mmae_jax.types import UsageError

  try:
    suites = _chosen(arguments.only)
    if arguments.full and "models" not in suites:
      raise UsageError("--full adds networks: --only must have models")
    if not arguments.full:
      os.environ.setdefault("XLA_FLAGS", _PLAIN_CODE)
    _require_torch(arguments.full)
    return _run(suites, arguments, _folder(arguments.out))
  except UsageError as error:
    sys.exit(f"error: {error}")
  except KeyboardInterrupt:
    sys.exit(130)


def _folder(name):
  from mmae_jax.types import UsageError

  out = pathlib.Path(name)
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UsageError(f"--out={name}: {error.strerror}") from error
  return out


def _run(suites, arguments, out):
  from parity_suites import page
  from rich.console import Console

  screen = Console(stderr=True)
  rows, seconds, pictures = [], {}, {}
  suites = [*suites, "training"] if arguments.train else suites
  for name in suites:
    started = _cpu_seconds()
    module = importlib.import_module(f"parity_suites.{name}")
    if name == "training":
      rows += module.rows(module.compare(out / name))
      image = (out / name / "training.png").read_bytes()
      pictures[name] = {"Losses, and how far they are apart": image}
    else:
      with screen.status(name):
        is_sized = name == "models"
        rows += module.rows(arguments.full) if is_sized else module.rows()
    seconds[name] = _cpu_seconds() - started
    # After each suite: what has been found outlives a failure of the next.
    result = page.result(rows, seconds)
    page.write(result, out, pictures)
  page.show(result)
  print(f"wrote {out / 'parity.json'} and {out / 'parity.html'}")
  return 1 if result["counts"]["FAILED"] else 0


def _cpu_seconds():
  """Of this process and of the programs that it has started."""
  return sum(os.times()[:4])


if __name__ == "__main__":
  sys.exit(main())
