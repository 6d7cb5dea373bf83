"""Matrix-SSL: matrix uniformity and matrix alignment.

Command:   python launch/train.py --config=configs/matrix_ssl.py
Cost:      embedded digits: 131 s on 2 CPU cores.
Number:    k-NN 80.3 %, linear 91.7 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: at most 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 76.8 %, linear 79.9 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10; the setting is ours, number unknown.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, 100 epochs, batch 1024: 71.1 linear probe (Zhang
                     et al. 2023, arXiv 2305.17326, as quoted by a public
                     review).
"""

from mmae_jax import recipes

ARGUMENTS = recipes.JOINT_EMBEDDING


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.joint_embedding("matrix_ssl", arg, augmentation="matrix_ssl")
  objective = config.objective
  objective.uniformity = 1.0
  objective.ridge = 1.0
  objective.gamma = 1.0
  objective.order = 4
  objective.form = "program"
  recipes.like_mec(config, arg)
  return config
