"""MEC: maximum entropy coding of a student and a momentum teacher.

Command:   python launch/train.py --config=configs/mec.py
Cost:      embedded digits: to be measured.
Number:    to be measured.

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py
                     --idx); to be measured.
  :cifar10_resnet18  CIFAR-10; the setting is ours, number unknown.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, 100 epochs, batch 1024: 70.8 linear probe (the
                     authors' repository).
"""

from mmae_jax import recipes

ARGUMENTS = recipes.JOINT_EMBEDDING


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.joint_embedding("mec", arg, augmentation="mec")
  objective = config.objective
  objective.epsilon_squared = 64.0
  objective.warmup_factor = 8.0
  objective.warmup_share = 0.1
  objective.order = 4
  recipes.like_mec(config, arg)
  return config
