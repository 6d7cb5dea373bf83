"""MEC: maximum entropy coding of a student and a momentum teacher.

Command:   python launch/train.py --config=configs/mec.py
Cost:      embedded digits: to be measured.
Number:    to be measured.

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py
                     --idx); to be measured.
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
  objective, optimizer = config.objective, config.optimizer
  objective.epsilon_squared = 64.0
  objective.warmup_factor = 8.0
  objective.warmup_share = 0.1
  objective.order = 4
  objective.momentum = 0.99
  objective.projector.widths = (256, 256, 256)
  objective.predictor = {"widths": (64, 256)}
  optimizer.decay = "all"
  if arg == "cifar10_resnet18":
    objective.projector.widths = (2048, 2048, 2048)
    objective.predictor.widths = (512, 2048)
    optimizer.name = "sgd"
    optimizer.base_learning_rate = 0.5
    optimizer.weight_decay = 1e-4
  elif arg == "resnet50":
    objective.momentum = 0.996
    objective.projector.widths = (2048, 2048, 2048)
    objective.predictor.widths = (512, 2048)
    config.batch_size = 1024
    config.epochs = 100
    optimizer.name = "sgd"
    optimizer.base_learning_rate = 0.5
    optimizer.warmup = "linspace"
    config.evaluation.linear.base_learning_rate = 0.03
    config.evaluation.linear.epochs = 100
    optimizer.weight_decay = 1e-5
  return config
