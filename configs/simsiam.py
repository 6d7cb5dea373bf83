"""SimSiam: a prediction of the other view, and no negatives.

Command:   python launch/train.py --config=configs/simsiam.py
Cost:      embedded digits: 102 s on 2 CPU cores.
Number:    k-NN 72.2 %, linear 85.8 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: at most 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 75.4 %, linear 77.8 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, near solo-learn's setting, 1000 epochs; its
                     README: 90.51 linear.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, 100 epochs, batch 512: 68.1 linear probe (the
                     authors' repository).
"""

from mmae_jax import recipes

ARGUMENTS = recipes.JOINT_EMBEDDING


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.joint_embedding(
    "simsiam", arg, augmentation="simsiam", cifar="solo_learn_symmetric_weak"
  )
  objective, optimizer = config.objective, config.optimizer
  objective.projector.widths = (256, 256, 256)
  objective.predictor = {"widths": (64, 256)}
  optimizer.decay = "all"
  # The predictor has to keep up with the representation.
  optimizer.constant = ("predictor",)
  if arg == "cifar10_resnet18":
    config.encoder.zero_init_last = True
    objective.projector.widths = (2048, 2048, 2048)
    objective.predictor.widths = (512, 2048)
    optimizer.name = "sgd"
    optimizer.base_learning_rate = 0.5
    optimizer.weight_decay = 1e-5
  elif arg == "resnet50":
    objective.projector.widths = (2048, 2048, 2048)
    objective.predictor.widths = (512, 2048)
    config.batch_size = 512
    config.epochs = 100
    optimizer.name = "sgd"
    optimizer.base_learning_rate = 0.05
    optimizer.warmup_epochs = 0.0
    optimizer.schedule_per = "epoch"
    optimizer.weight_decay = 1e-4
  return config
