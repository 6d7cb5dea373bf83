"""Weights of a local Hugging Face folder, and low-rank adapters beside them.

Imports tunix, so it is itself imported inside functions alone.
"""

import json
import struct

from etils import epath
from flax import nnx
from jax.sharding import Mesh
import qwix
from tunix.models.gemma import params_safetensors as gemma
from tunix.models.llama3 import params as llama3
from tunix.models.qwen2 import params as qwen2
from tunix.models.qwen3 import params as qwen3
from tunix.sft import utils as tunix_utils

from mmae_jax.language import models, sharding
from mmae_jax.language.families import Sizes
from mmae_jax.types import UsageError

_READERS = {
  "llama": llama3,
  "qwen2": qwen2,
  "qwen3": qwen3,
  "gemma": gemma,
  "gemma2": gemma,
}


def load(folder: str, sizes: Sizes, mesh: Mesh, *, remat="none", dtype=None):
  """A model with the weights of a local Hugging Face folder.

  Args:
    folder: with *.safetensors of one type.
    sizes: of its config.json.
    mesh: of `sharding.make_mesh`.
    remat: see `models.tunix_config`.
    dtype: of the parameters; None keeps the files'.
  Returns:
    An nnx.Module, split over the mesh by tunix's rules.
  Raises:
    UsageError: there are no such files, or they are not the weights of this
      model.
  """
  where = f"--config.model.folder={folder}"
  config = models.tunix_config(sizes, remat=remat)
  own = models.CLASSES[sizes.family]
  sharding.check(
    nnx.eval_shape(lambda: own(config, rngs=nnx.Rngs(params=0))), mesh
  )
  _check_files(folder, where)
  try:
    model = _READERS[sizes.family].create_model_from_safe_tensors(
      folder, config, mesh, dtype=dtype
    )
  except (AssertionError, ValueError, RuntimeError, TypeError, KeyError) as e:
    reason = (str(e).splitlines() or [type(e).__name__])[0]
    raise UsageError(
      f"{where}: its weights do not fit its config.json ({reason})"
    ) from e
  if sizes.family == "llama":
    return _as_ours(model)
  return model


def _as_ours(model):
  """A Llama of tunix's loader with the class that heeds the RoPE base."""
  ours = nnx.eval_shape(
    lambda: models.Llama(model.config, rngs=nnx.Rngs(params=0))
  )
  return nnx.merge(nnx.graphdef(ours), nnx.state(model))


def _check_files(folder: str, where: str) -> None:
  """tunix reads a file's tensors as one array, of the first one's type."""
  files = sorted(epath.Path(folder).glob("*.safetensors"))
  if not files:
    hint = ""
    if list(epath.Path(folder).glob("*.bin")):
      hint = (
        "; there are .bin files: write them as safetensors with"
        " save_pretrained of the transformers library"
      )
    raise UsageError(f"{where}: has no *.safetensors{hint}")
  for path in files:
    try:
      with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
      types = {
        entry["dtype"] for k, entry in header.items() if k != "__metadata__"
      }
    except (struct.error, ValueError, KeyError, OverflowError) as error:
      raise UsageError(
        f"{where}: {path.name} is not readable ({error})"
      ) from error
    if len(types) > 1:
      raise UsageError(
        f"{where}: {path.name} mixes {', '.join(sorted(types))}; tunix's loader"
        " needs one type in a file"
      )


def add_lora(key, model, lora, mesh: Mesh):
  """The model with low-rank adapters, which alone will be trained.

  Args:
    key: of the adapters' first factors; the second ones are zero.
    model: an nnx.Module.
    lora: `config.lora`: rank, alpha and modules, a regular expression.
    mesh: of `sharding.make_mesh`.
  Returns:
    A model of qwix.
  Raises:
    UsageError: the expression fits no module.
  """
  provider = qwix.LoraProvider(
    module_path=lora.modules, rank=lora.rank, alpha=lora.alpha
  )
  with mesh:
    adapted = qwix.apply_lora_to_model(
      model, provider, **model.get_model_input(), rngs=nnx.Rngs(key)
    )
  if not tunix_utils.is_lora_enabled(adapted):
    raise UsageError(
      f"--config.lora.modules={lora.modules}: fits no module of the model"
    )
  return adapted
