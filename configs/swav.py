"""SwAV: views predict each other's codes, spread evenly over prototypes.

Command:   python launch/train.py --config=configs/swav.py
Cost:      embedded digits: 151 s on 2 CPU cores.
Number:    k-NN 75.3 %, linear 90.3 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 76.3 %, linear 79.0 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, near solo-learn's setting, 1000 epochs; its
                     README: 89.17 linear.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, 800 epochs, batch 4096, 2 x 224 + 6 x 96: 75.3
                     linear probe (the authors' repository).
"""

from mmae_jax import recipes

ARGUMENTS = recipes.JOINT_EMBEDDING


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.multi_crop("swav", arg, family="swav", arguments=ARGUMENTS)
  recipes.like_swav(config, arg)
  recipes.like_prototypes(config, arg)
  objective = config.objective
  objective.epsilon = 0.05
  objective.iterations = 3
  objective.queue_size = 0
  objective.queue_epochs = 15.0
  if arg is None:
    objective.queue_size = 256
  elif arg == "cifar10_resnet18":
    objective.queue_size = 3840
    objective.queue_epochs = 50.0
  return config
