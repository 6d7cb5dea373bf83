"""BYOL: the online network predicts an average of itself.

Command:   python launch/train.py --config=configs/byol.py
Cost:      embedded digits: 133 s on 2 CPU cores.
Number:    k-NN 78.3 %, linear 89.4 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: at most 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 74.3 %, linear 77.7 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, near solo-learn's setting, 1000 epochs; its
                     README: 92.58 linear.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, 1000 epochs, batch 4096: 74.4 linear probe (the
                     authors' checkpoint).
"""

from mmae_jax import recipes

ARGUMENTS = recipes.JOINT_EMBEDDING


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.joint_embedding("byol", arg, augmentation="byol")
  objective, optimizer = config.objective, config.optimizer
  objective.momentum = 0.99
  objective.projector.widths = (256, 128)
  objective.predictor = {"widths": (256, 128)}
  if arg == "cifar10_resnet18":
    objective.projector.widths = (4096, 256)
    objective.predictor.widths = (4096, 256)
    optimizer.base_learning_rate = 1.0
    optimizer.weight_decay = 1e-5
  elif arg == "resnet50":
    objective.momentum = 0.996
    objective.projector.widths = (4096, 256)
    objective.predictor.widths = (4096, 256)
    config.encoder.zero_init_last = False
    config.batch_size = 4096
    config.epochs = 1000
    optimizer.name = "lars"
    optimizer.base_learning_rate = 0.2
    optimizer.weight_decay = 1.5e-6
  return config
