"""Trains one config: python launch/train.py --config=configs/mmae.py.

The same command continues a run that was stopped. Exit codes: 0 finished, 143
or 130 stopped by a signal with everything saved, 1 an error.
"""

import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

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
flags.mark_flag_as_required("config")


def main(argv):
  from mmae_jax.train import distributed, stop

  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)  # orbax tells every file

  signals = stop.StopSignal().install()
  with signals.nothing_to_save(
    lambda signum: print("stopped before training: nothing to save")
  ):
    from mmae_jax.train import loop, workdir
    from mmae_jax.types import UsageError

    try:
      if len(argv) > 1:
        raise UsageError(f"unexpected argument {argv[1]!r}")
      if _DETERMINISTIC.value:
        os.environ["XLA_FLAGS"] = (
          os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
        )
      distributed.initialise(_DISTRIBUTED.value)
      config = _CONFIG.value
      folder = _WORKDIR.value or workdir.default_workdir(config)
      loop.run(config, folder, stop=signals)
    except UsageError as e:
      sys.exit(f"error: {e}")
    except stop.Stopped as e:
      print(e, flush=True)
      sys.exit(e.exit_code)


if __name__ == "__main__":
  app.run(main)
