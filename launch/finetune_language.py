"""Fine-tunes a language model with cross-entropy, and matrix cross-entropy.

  python launch/finetune_language.py --config=configs/matrix_llm.py
  python launch/finetune_language.py --config=configs/matrix_llm.py \\
    --seeds=0,1,2
  python launch/finetune_language.py \\
    --config=configs/matrix_llm.py:gsm8k_llemma_7b \\
    --config.model.folder=/models/llemma_7b \\
    --config.data.train=/data/MetaMathQA-395K.json \\
    --config.data.test=/data/gsm8k/test.jsonl

Needs the extra `language`: pip install -e ".[language]". The same command
continues a run that was stopped. Exit codes: 0 finished, 143 or 130 stopped by
a signal with everything saved, 1 an error.
"""

import functools
import shlex
import sys

from absl import app, flags
from ml_collections import config_flags

from mmae_jax import command_line
from mmae_jax.train import stop

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file, optionally with :argument.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", "", "The run's folder; default runs/<config name>-<digest>."
)
_SEEDS = flags.DEFINE_list(
  "seeds", ["0"], "Of weights and order; one run of each loss for each."
)
_DETERMINISTIC = flags.DEFINE_bool(
  "deterministic", False, "Bit-identical restarts on GPUs too (slower)."
)


def main(argv, signals, command):
  del argv  # `command_line.parse_flags` refuses arguments
  from mmae_jax.train import workdir
  from mmae_jax.types import UsageError

  command_line.begin_training(deterministic=_DETERMINISTIC.value)
  try:
    from mmae_jax.language import extra

    extra.require()
    from mmae_jax.language import run

    run.run(
      _CONFIG.value,
      _WORKDIR.value or workdir.default_workdir(_CONFIG.value),
      seeds=read_seeds(_SEEDS.value),
      command=command,
      stop=signals,
    )
  except stop.Stopped as e:
    print(e, flush=True)
    sys.exit(e.exit_code)
  except UsageError as e:
    sys.exit(f"error: {e}")


def read_seeds(texts):
  """Different numbers from 0 on."""
  from mmae_jax.types import UsageError

  known = all(text.isdecimal() and int(text) < 2**32 for text in texts)
  if not texts or not known or len(set(map(int, texts))) < len(texts):
    raise UsageError(
      f"--seeds={','.join(texts)}: needs different numbers >= 0, like 0,1,2"
    )
  return [int(text) for text in texts]


def farewell(signum):
  print("stopped: what was trained before is saved", flush=True)


if __name__ == "__main__":
  typed = shlex.join(["python", *sys.argv])
  signals = stop.StopSignal().install()
  with signals.nothing_to_save(farewell):  # reading the config imports jax
    app.run(
      functools.partial(main, signals=signals, command=typed),
      flags_parser=command_line.parse_flags,
    )
