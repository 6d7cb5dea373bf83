"""DINO: a student predicts the centred, sharpened classes of its average.

Command:   python launch/train.py --config=configs/dino.py
Cost:      embedded digits: 164 s on 2 CPU cores.
Number:    k-NN 78.6 %, linear 91.4 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 74.9 %, linear 78.5 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, near solo-learn's setting, 1000 epochs; its
                     README: 89.52 linear.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, the program's command for 100 epochs; 75.3
                     linear probe (the authors' repository) is that of 800.
  :vit_s16           ImageNet, 100 epochs: 69.3 k-NN, 74.0 linear probe (the
                     authors' repository).
"""

from mmae_jax import recipes

ARGUMENTS = (*recipes.JOINT_EMBEDDING, "vit_s16")


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.multi_crop("dino", arg, family="dino", arguments=ARGUMENTS)
  recipes.like_dino(config, arg)
  return config
