"""VICReg: invariance, variance and covariance of two views.

Command:   python launch/train.py --config=configs/vicreg.py
Cost:      embedded digits: 102 s on 2 CPU cores.
Number:    k-NN 96.9 %, linear 98.9 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: at most 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 78.5 %, linear 81.2 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, near solo-learn's setting, 1000 epochs; its
                     README: 92.07 linear.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, 1000 epochs, batch 2048: 73.2 linear probe (the
                     authors' repository).
"""

from mmae_jax import recipes

ARGUMENTS = recipes.JOINT_EMBEDDING


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.joint_embedding(
    "vicreg", arg, augmentation="vicreg", cifar="solo_learn_vicreg"
  )
  objective, optimizer = config.objective, config.optimizer
  objective.invariance = 25.0
  objective.variance = 25.0
  objective.covariance = 1.0
  objective.projector.widths = (256, 256, 256)
  if arg == "cifar10_resnet18":
    objective.projector.widths = (2048, 2048, 2048)
    optimizer.base_learning_rate = 0.3
  elif arg == "resnet50":
    objective.projector.widths = (8192, 8192, 8192)
    config.encoder.dtype = "bfloat16"  # theirs: mixed float16
    config.batch_size = 2048
    config.epochs = 1000
    optimizer.name = "lars"
    optimizer.base_learning_rate = 0.2
    # Of this batch's peak, as the authors' program has it.
    optimizer.min_learning_rate = 0.001 * 0.2 * 2048 / 256
    optimizer.weight_decay = 1e-6
  return config
