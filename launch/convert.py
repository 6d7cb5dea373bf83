"""Converts weights: python launch/convert.py --from=SOURCE --to=TARGET.

SOURCE is a run, a checkpoint of ours, a PyTorch file (.pth, .pt, .ckpt), a
.safetensors file or a Hugging Face folder; its format is recognised and said.
TARGET does not exist yet: a file by its suffix, a Hugging Face folder with
--format=hf_vit, hf_vit_mae or hf_resnet, else a folder that load_encoder,
launch/evaluate.py and --config.init_from read.

  python launch/convert.py --from=mae_pretrain_vit_base.pth --to=mae_b16
  python launch/convert.py --from=runs/mmae-1a2b3c4d --to=mmae.pth --format=mae
  python launch/convert.py --from=runs/mmae-1a2b3c4d --to=hf --format=hf_vit_mae
"""

import argparse
import sys

from mmae_jax import command_line


def _numbers(text: str) -> tuple[float, ...]:
  values = tuple(float(part) for part in text.split(","))
  if len(values) != 3:
    raise argparse.ArgumentTypeError("three numbers, such as 0.5,0.5,0.5")
  return values


def parser() -> argparse.ArgumentParser:
  """The command line."""
  p = command_line.argument_parser(__doc__)
  p.add_argument("--from", dest="source", required=True)
  p.add_argument("--to", required=True)
  p.add_argument(
    "--format",
    default="",
    help="of the side that is not ours; default: recognised, or as it came",
  )
  p.add_argument(
    "--from_format", default="", help="of the source, if neither side is ours"
  )
  p.add_argument("--step", type=int, help="of a run; default: the newest")
  p.add_argument(
    "--strict",
    action="store_true",
    help="an error if something has no place on the other side",
  )
  unsaid = p.add_argument_group("what a file of weights does not say")
  unsaid.add_argument("--heads", type=int)
  unsaid.add_argument("--decoder_heads", type=int)
  unsaid.add_argument(
    "--image_size", type=int, help="another one resizes the positions"
  )
  unsaid.add_argument("--mean", type=_numbers, help="of the pixels, 0 to 1")
  unsaid.add_argument("--std", type=_numbers)
  return p


def main() -> None:
  arguments = vars(parser().parse_args())
  take = arguments.pop
  from mmae_jax.types import UsageError

  try:
    from mmae_jax import interop

    interop.convert(
      take("source"),
      take("to"),
      name=take("format"),
      source_format=take("from_format"),
      step=take("step"),
      strict=take("strict"),
      options=arguments,
    )
  except UsageError as error:
    sys.exit(f"error: {error}")
  except KeyboardInterrupt:
    sys.exit(130)


if __name__ == "__main__":
  main()
