"""DeepCluster-v2: crops predict the k-means clusters of their image.

Command:   python launch/train.py --config=configs/deepcluster.py
Cost:      embedded digits: 153 s on 2 CPU cores.
Number:    k-NN 95.6 %, linear 98.1 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: 16.4 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 77.7 %, linear 79.8 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, near solo-learn's setting, 1000 epochs; its
                     README: 88.85 linear.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, 800 epochs, batch 4096, 2 x 224 + 6 x 96: 75.2
                     linear probe (the authors' repository).
"""

from mmae_jax import recipes

ARGUMENTS = recipes.JOINT_EMBEDDING


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.multi_crop(
    "deepcluster", arg, family="swav", arguments=ARGUMENTS
  )
  recipes.like_swav(config, arg)
  recipes.like_deepcluster(config, arg)
  return config
