"""Speed and memory, beside a baseline: python launch/bench.py --suite=step.

--suite=step    one training step on random images; with the extra `torch`
                Hugging Face's ViTMAEForPreTraining of the same sizes, batch,
                precision and optimizer takes turns with ours in this process
--suite=input   images/s of the input pipeline: small PNGs, 500 x 375 JPEGs, and
                the photometry of published recipes on the device
--suite=information
                each quantity of mmae_jax.information, forward and backward,
                as a share of the step above, and beside it, in turns, the form
                that the authors' programs use, in JAX and in PyTorch

python launch/bench.py --suite=step --size=b16 --batch=16
python launch/bench.py --suite=step --size=l16 --batch=256 --dtype=bfloat16
python launch/bench.py --suite=information --out=runs/information.json
"""

import importlib
import json
import os
import pathlib
import sys

from mmae_jax import command_line

# PyTorch lives in the same process: neither may take all the memory at once.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def parser():
  """The command line."""
  p = command_line.argument_parser(__doc__)
  p.add_argument(
    "--suite", required=True, choices=["step", "input", "information"]
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
    default="b16",
    choices=["digits", "ti8", "s16", "b16", "l16", "h14"],
  )
  step.add_argument(
    "--objective", default="mae", choices=["mae", "umae", "mmae"]
  )
  step.add_argument("--batch", type=int, default=16, help="global batch")
  step.add_argument(
    "--dtype", default="float32", choices=["float32", "bfloat16"]
  )
  step.add_argument("--remat", action="store_true")
  step.add_argument("--microbatches", type=int, default=1)
  step.add_argument("--rounds", type=int, default=5, help="turns of each")
  step.add_argument(
    "--steps", type=int, default=0, help="of a turn; 0: 1 on a CPU, else 10"
  )
  step.add_argument("--no_torch", action="store_true")
  step.add_argument(
    "--torch_compile",
    default="auto",
    choices=["auto", "on", "off"],
    help="auto: on a GPU only",
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


def main(argv=None) -> None:
  arguments = parser().parse_args(argv)
  from mmae_jax.types import UsageError

  try:
    suite = importlib.import_module(f"bench_{arguments.suite}")
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
