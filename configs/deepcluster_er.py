"""DeepCluster+ER, ours: DeepCluster-v2 with an entropy of its predictions.

Command:   python launch/train.py --config=configs/deepcluster_er.py
Cost:      embedded digits: 149 s on 2 CPU cores.
Number:    k-NN 94.7 %, linear 96.4 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: 16.4 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 77.6 %, linear 80.2 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, DeepCluster-v2's setting; no published number.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, DeepCluster-v2's recipe; no published number.
"""

from mmae_jax import recipes

ARGUMENTS = recipes.JOINT_EMBEDDING


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.multi_crop(
    "deepcluster_er", arg, family="swav", arguments=ARGUMENTS
  )
  recipes.like_swav(config, arg)
  recipes.of_categories(config)
  recipes.like_deepcluster(config, arg)
  return config
