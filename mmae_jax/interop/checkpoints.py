"""Converted networks as checkpoints of ours, which all of the package reads.

`checkpoints/0` of a folder with the items of `train/checkpoint.py`, and

    foreign   what our networks have no place for: tensors.safetensors, and
              origin.json: the format, and every name and dtype of the file
"""

import json
import os
import pathlib
from typing import Any

from etils import epath
from flax import traverse_util
import orbax.checkpoint as ocp
from safetensors import numpy as safetensors

from mmae_jax import config as config_lib
from mmae_jax.interop import writing
from mmae_jax.interop.network import Network
from mmae_jax.train import checkpoint, digests, versions

_TENSORS, _ORIGIN = "tensors.safetensors", "origin.json"


def write(target: Any, network: Network) -> None:
  """Writes a folder that `load_encoder` and --config.init_from read.

  Args:
    target: a folder that does not exist.
    network: a converted one.
  Raises:
    UsageError: the target exists or cannot be written.
  """
  carry = network.tree("carry", "carry")
  if teacher := network.tree("teacher", "params"):
    carry["teacher"] = {
      "params": teacher,
      "model_state": network.model_state("teacher"),
    }
  items = {
    "network": ocp.args.StandardSave(
      {
        "params": network.tree("student", "params"),
        "model_state": network.model_state("student"),
      }
    ),
    "config": ocp.args.JsonSave(json.loads(config_lib.to_json(network.config))),
    "versions": ocp.args.JsonSave(
      {
        "format": checkpoint.FORMAT,
        **versions.libraries(),
        "commit": versions.commit(),
      }
    ),
  }
  if carry:
    items["rest"] = ocp.args.StandardSave({"carry": carry})
  with writing.whole(pathlib.Path(target)) as draft:
    folder = epath.Path(os.path.abspath(draft)) / "checkpoints" / "0"
    folder.parent.mkdir(parents=True)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
      checkpointer.save(folder, args=ocp.args.Composite(**items))
    if network.origin:
      kept = writing.contiguous(
        {p: x for p, x in network.arrays.items() if _is_kept(p)}
      )
      (folder / "foreign").mkdir()
      safetensors.save_file(
        kept, folder / "foreign" / _TENSORS, metadata={"format": "np"}
      )
      text = json.dumps(network.origin)
      (folder / "foreign" / _ORIGIN).write_text(text)
    digests.write(folder)


def _is_kept(path):
  return path.startswith("kept/") or "/kept/" in path


def read(source: Any, *, step: int | None = None) -> Network:
  """Reads a run, a checkpoint of ours, or a converted network.

  Args:
    source: a run's folder, or one `checkpoints/<step>` in it.
    step: the checkpoint of a run; None is its newest sound one.
  Returns:
    The Network, its teacher too.
  Raises:
    UsageError: there is no such checkpoint, or its files changed.
  """
  config, params, model_state, _, folder = checkpoint.load_network(
    source, step=step, evaluated="student"
  )
  arrays = _flat("student/params", params)
  arrays |= _flat("student/batch_stats", model_state.get("batch_stats", {}))
  if (folder / "rest").exists():
    carry = checkpoint.read_arrays(folder / "rest")["carry"] or {}
    teacher = carry.pop("teacher", None) or {"params": {}, "model_state": {}}
    statistics = (teacher.get("model_state") or {}).get("batch_stats", {})
    arrays |= _flat("teacher/params", teacher["params"])
    arrays |= _flat("teacher/batch_stats", statistics)
    arrays |= _flat("carry/carry", carry)
  origin = None
  if (folder / "foreign").exists():
    arrays |= safetensors.load_file(folder / "foreign" / _TENSORS)
    origin = json.loads((folder / "foreign" / _ORIGIN).read_text())
  return Network(config, arrays, origin)


def _flat(before, tree):
  flat = traverse_util.flatten_dict(tree, sep="/")
  return {f"{before}/{path}": x for path, x in flat.items()}
