"""SwAV+ER, ours: an entropy in the place of SwAV's codes.

Command:   python launch/train.py --config=configs/swav_er.py
Cost:      embedded digits: 165 s on 2 CPU cores.
Number:    k-NN 65.3 %, linear 87.2 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 73.4 %, linear 77.2 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, SwAV's setting; no published number.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, SwAV's recipe; no published number.
"""

from mmae_jax import recipes

ARGUMENTS = recipes.JOINT_EMBEDDING


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.multi_crop(
    "swav_er", arg, family="swav", arguments=ARGUMENTS
  )
  recipes.like_swav(config, arg)
  recipes.of_categories(config)
  recipes.like_prototypes(config, arg)
  config.objective.target_temperature = 0.05
  return config
