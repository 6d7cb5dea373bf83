"""DINO+ER: DINO's networks on the entropy-reconstruction bound.

Command:   python launch/train.py --config=configs/dino_er.py
Cost:      embedded digits: 172 s on 2 CPU cores.
Number:    k-NN 80.8 %, linear 91.7 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 74.4 %, linear 77.7 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, DINO's setting; no published number.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, 400 epochs, batch 4096: 73.39 linear probe (the
                     paper's table 2).
  :batch512          the same with batch 512: 71.04 (2.35 less, table 2).
  :ema08             the same with a momentum of 0.8: 72.47 (0.92 less).
"""

from mmae_jax import recipes

ARGUMENTS = (*recipes.JOINT_EMBEDDING, "batch512", "ema08")


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.multi_crop(
    "dino_er", arg, family="dino", arguments=ARGUMENTS
  )
  recipes.like_dino(config, "resnet50" if arg in recipes.ER else arg)
  recipes.of_categories(config)
  config.objective.symmetric = False
  if arg in recipes.ER:
    recipes.like_er(config, arg)
    config.objective.prototypes = 60_000  # read off figure 2, not stated
  return config
