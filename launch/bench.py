"""Speed and memory, beside a baseline: python launch/bench.py --suite=step.

--suite=step    one training step on random images; with the extra `torch`
                Hugging Face's ViTMAEForPreTraining of the same sizes, batch,
                precision and optimizer takes turns with ours in this process.
                With --objective=two_view, or one such method: the network
                forward and backward on both views once, each loss alone on
                outputs of its recipe's width, Matrix-SSL's also by the authors'
                [dim, dim] matrices, and the photometry, as shares of the step
--suite=input   images/s of the input pipeline: small PNGs, 500 x 375 JPEGs, and
                the photometry of published recipes on the device
--suite=information
                each quantity of mmae_jax.information, forward and backward,
                as a share of the step above, and beside it, in turns, the form
                that the authors' programs use, in JAX and in PyTorch
--suite=kmeans  DeepCluster's clustering between two epochs, on all devices
--suite=language
                matrix cross-entropy of tokens beside the head of a language
                model, in turns, and beside matrices of [dim, dim] per token

python launch/bench.py --suite=step --size=b16 --batch=16
python launch/bench.py --suite=step --size=l16 --batch=256 --dtype=bfloat16
python launch/bench.py --suite=step --objective=two_view --batch=64 --rounds=2
python launch/bench.py --suite=step --objective=simsiam --size=s16 --batch=256
python launch/bench.py --suite=information --out=runs/information.json
python launch/bench.py --suite=kmeans --rows=65536
python launch/bench.py --suite=language --tokens=256 --orders=1,2,4
"""

import importlib
import json
import os
import pathlib
import sys

from mmae_jax import command_line

MASKED = ("mae", "umae", "mmae")
TWO_VIEW = (
  *("barlow_twins", "byol", "matrix_ssl", "mec", "moco_v2", "moco_v3"),
  *("simclr", "simsiam", "spectral_contrastive", "vicreg"),
)

# PyTorch lives in the same process: neither may take all the memory at once.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def parser():
  """The command line."""
  p = command_line.argument_parser(__doc__)
  p.add_argument(
    "--suite",
    required=True,
    choices=["step", "input", "information", "kmeans", "language"],
  )
  p.add_argument(
    "--out",
    default="",
    help="also write the numbers as JSON; of `information` .md, .csv and .png"
    " beside it",
  )
  step = p.add_argument_group("step, and the step that information is part of")
  step.add_argument(
    "--size",
    default="",
    choices=["digits", "ti8", "s16", "b16", "l16", "h14", "r50"],
    help="default b16; two views: r50 (ResNet-50, the default), s16, digits",
  )
  step.add_argument(
    "--objective",
    default="mae",
    choices=[*MASKED, "two_view", *TWO_VIEW],
    help="two_view: all that follow",
  )
  step.add_argument("--batch", type=int, default=16, help="global batch")
  step.add_argument(
    "--dtype", default="float32", choices=["float32", "bfloat16"]
  )
  step.add_argument("--remat", action="store_true")
  step.add_argument("--microbatches", type=int, default=1)
  step.add_argument("--rounds", type=int, default=5, help="turns of each")
  step.add_argument(
    "--steps",
    type=int,
    default=0,
    help="of a turn; 0: 1 on a CPU, else 10; two views: more of what is short",
  )
  step.add_argument("--no_torch", action="store_true")
  step.add_argument(
    "--torch_compile",
    default="auto",
    choices=["auto", "on", "off"],
    help="auto: on a GPU only",
  )
  kmeans = p.add_argument_group("kmeans")
  kmeans.add_argument("--rows", type=int, default=65_536, help="of the bank")
  kmeans.add_argument("--dim", type=int, default=128)
  kmeans.add_argument("--clusters", type=int, default=3000)
  language = p.add_argument_group("language; the sizes are Llama-7B's")
  language.add_argument(
    "--tokens", type=int, default=128, help="that are timed"
  )
  language.add_argument("--vocabulary", type=int, default=32_000)
  language.add_argument("--width", type=int, default=4096, help="of the model")
  language.add_argument("--layers", type=int, default=32)
  language.add_argument("--hidden", type=int, default=11_008, help="of its MLP")
  language.add_argument("--orders", default="1,4", help="Taylor terms")
  language.add_argument(
    "--memory_tokens",
    type=int,
    default=2048,
    help="of the programs whose memory is read; compiled, not run",
  )
  data = p.add_argument_group("input")
  data.add_argument("--threads", default="1,2,4", help="numbers to try")
  data.add_argument("--workers", default="0,1,2", help="numbers to try")
  data.add_argument("--seconds", type=float, default=3.0, help="of each try")
  information = p.add_argument_group("information")
  information.add_argument(
    "--batches", default="256,1024,4096,8192", help="numbers of rows"
  )
  information.add_argument(
    "--dims", default="128,512,2048,4096", help="numbers of features"
  )
  information.add_argument(
    "--quick", action="store_true", help="256 and 512 rows and features only"
  )
  information.add_argument(
    "--longest",
    type=float,
    default=20.0,
    help="on a CPU: seconds of one call above which it is extrapolated",
  )
  information.add_argument(
    "--minutes",
    type=float,
    default=27.0,
    help="what would end after that is extrapolated",
  )
  information.add_argument(
    "--blas_threads",
    type=int,
    default=1,
    help="of JAX's LAPACK on a CPU; 1 is what launch/train.py sets",
  )
  return p


def _suite(arguments):
  """Name of the suite; fills in the size that goes with the objective."""
  from mmae_jax.types import UsageError

  masked = arguments.objective in MASKED
  arguments.size = arguments.size or ("b16" if masked else "r50")
  if masked and arguments.size == "r50":
    raise UsageError(
      f"--size=r50: --objective={arguments.objective} masks patches of a ViT"
    )
  if masked or arguments.suite in ("input", "kmeans", "language"):
    return arguments.suite
  if arguments.suite == "information":
    raise UsageError(
      f"--objective={arguments.objective}: of --suite=step alone; the step of"
      f" --suite=information is one of {', '.join(MASKED)}"
    )
  return "two_view"


def main(argv=None) -> None:
  arguments = parser().parse_args(argv)
  from mmae_jax.types import UsageError

  try:
    suite = importlib.import_module(f"bench_{_suite(arguments)}")
    if arguments.out:  # before the minutes that it takes
      pathlib.Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    result = suite.measure(arguments)
    suite.show(result)
    if arguments.out:
      out = pathlib.Path(arguments.out)
      out.write_text(json.dumps(result, indent=2))
      if hasattr(suite, "write_beside"):
        suite.write_beside(result, out)
  except UsageError as error:
    sys.exit(f"error: {error}")
  except OSError as error:
    sys.exit(f"error: --out={arguments.out}: {error.strerror}")
  except KeyboardInterrupt:
    sys.exit(130)


if __name__ == "__main__":
  main()
