"""The published recipes, as config files and the command line use them."""

from absl import flags
from ml_collections import config_flags
import pytest

from mmae_jax import augmentations, config as config_lib
from mmae_jax.data import crops
from mmae_jax.data.recipe import read_recipe
from mmae_jax.types import UsageError


@pytest.mark.parametrize("name", augmentations.names())
def test_a_locked_config_takes_every_recipe(name):
  config = config_lib.base()
  config.lock()
  view = config.views["global"]
  view.count = 2
  view.update(augmentations.views(name))
  assert view.size == 224 and view.count == 2
  crops.read_views(config.views)
  assert read_recipe("global", view).is_on
  back = config_lib.from_json(config_lib.to_json(config))
  assert back.to_dict() == config.to_dict()
  assert config_lib.digest(back) == config_lib.digest(config)


def test_changes_and_unknown_names():
  assert augmentations.photometry("byol", blur=0.25)["blur"] == 0.25
  assert augmentations.photometry("byol")["blur"] == (1.0, 0.1)
  assert set(augmentations.photometry("dino")) == set(
    config_lib.base().views["global"].photometry
  )
  with pytest.raises(UsageError, match="blurr.*it has jitter"):
    augmentations.photometry("byol", blurr=0.0)
  with pytest.raises(UsageError, match="'resim'; there are .*'simclr'"):
    augmentations.views("resim")


@pytest.mark.parametrize("text, value", [("0.5", 0.5), ("(1, .1)", (1, 0.1))])
def test_command_line_takes_numbers_and_tuples(tmp_path, text, value):
  path = tmp_path / "c.py"
  path.write_text(
    "from mmae_jax import config\ndef get_config(arg=None):\n"
    "  return config.base()\n"
  )
  values = flags.FlagValues()
  argv = [
    "program",
    f"--config={path}",
    f'--config.views["global"].photometry.blur={text}',
  ]
  config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
  values(argv)
  assert values.config.views["global"].photometry.blur == value
