"""What is said of a format: names, networks, wrapper of its files."""

import dataclasses

from mmae_jax.interop.names import Table

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Attention heads by width; no file says them.
MOCO_V3_HEADS = ((384, 12), (768, 12))
HEADS = ((192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16))


@dataclasses.dataclass(frozen=True)
class Format:
  """How one program writes its networks.

  Attributes:
    name: of the format.
    signs: regular expressions; a file of this format has a name that begins
      with each. The first format in the catalogue whose signs are there is it.
    student: names of the network that is trained.
    teacher: of its moving average or momentum twin.
    needs_teacher: whether a file without it is none of this format.
    carry: of what belongs to the method and not to a network, by its path in
      our `TrainState.carry`.
    evaluated: which of both the program's authors evaluate.
    objective: ours that continues such a training; "" is an encoder alone.
    wrapper: key of the dictionary of tensors in files that we write, "" where
      the file is that dictionary.
    prefix: before every name in files that we write.
    twice: (prefix, prefix): names with the first stand again with the second.
    fill: (name, other name, value): a vector of that value, as long as the
      other tensor, where our network has none (statistics that begin anew).
    heads: (width, attention heads).
    pixels: (mean, deviation) that images are normalised with.
  """

  name: str
  signs: tuple[str, ...]
  student: Table
  teacher: Table = ()
  needs_teacher: bool = False
  carry: Table = ()
  evaluated: str = "student"
  objective: str = ""
  wrapper: str = ""
  prefix: str = ""
  twice: tuple[str, str] | None = None
  fill: tuple[tuple[str, str, float], ...] = ()
  heads: tuple[tuple[int, int], ...] = HEADS
  pixels: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
