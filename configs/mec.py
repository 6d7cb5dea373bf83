"""MEC: maximum entropy coding of a student and a momentum teacher.

Command:   python launch/train.py --config=configs/mec.py
Cost:      embedded digits: 134 s on 2 CPU cores.
Number:    k-NN 80.8 %, linear 91.1 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: at most 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 73.8 %, linear 77.6 % with 20,000 images (one seed,
                     measured here).
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
