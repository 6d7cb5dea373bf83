"""Trains one config: python launch/train.py --config=configs/mmae.py.

Another value of any key of the config (see mmae_jax/config.py) is one flag:

  python launch/train.py --config=configs/mmae.py --config.epochs=50
  python launch/train.py --config=configs/mmae.py:vit_s16 \\
    --config.data.folder=/my/images

The same command continues a run that was stopped. Exit codes: 0 finished, 143
or 130 stopped by a signal with everything saved, 1 an error.
"""

import functools
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
_DISTRIBUTED = flags.DEFINE_enum(
  "distributed",
  "auto",
  ["on", "off", "auto"],
  "Several processes; auto: in a known cluster environment only.",
)
_DETERMINISTIC = flags.DEFINE_bool(
  "deterministic", False, "Bit-identical restarts on GPUs too (slower)."
)


def main(argv, signals):
  del argv  # `command_line.parse_flags` refuses arguments
  from mmae_jax.train import distributed, loop, workdir
  from mmae_jax.types import UsageError

  command_line.begin_training(deterministic=_DETERMINISTIC.value)
  try:
    distributed.initialise(_DISTRIBUTED.value, signals)
    config = _CONFIG.value
    folder = _WORKDIR.value or workdir.default_workdir(config)
    loop.run(config, folder, stop=signals)
  except stop.Stopped as e:
    print(e, flush=True)
    sys.exit(e.exit_code)
  except UsageError as e:
    distributed.fail(e)
    sys.exit(f"error: {e}")
  except Exception as e:
    distributed.fail(e)
    raise


def farewell(signum):
  print("stopped before training: nothing new to save", flush=True)


if __name__ == "__main__":
  signals = stop.StopSignal().install()
  with signals.nothing_to_save(farewell):  # reading the config imports jax
    app.run(
      functools.partial(main, signals=signals),
      flags_parser=command_line.parse_flags,
    )
