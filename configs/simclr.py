"""SimCLR: two views of an image against all other images of the batch.

Command:   python launch/train.py --config=configs/simclr.py
Cost:      embedded digits: 97 s on 2 CPU cores.
Number:    k-NN 95.8 %, linear 97.8 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: at most 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 78.7 %, linear 80.9 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, near solo-learn's setting, 1000 epochs; its
                     README: 90.74 linear.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, 100 epochs, batch 4096: about 64.5 linear probe
                     (the authors' README).
"""

from mmae_jax import recipes

ARGUMENTS = recipes.JOINT_EMBEDDING


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.joint_embedding(
    "simclr", arg, augmentation="simclr", cifar="solo_learn_symmetric"
  )
  objective, optimizer = config.objective, config.optimizer
  objective.temperature = 0.2
  objective.weight = 1.0
  objective.joint = True
  objective.projector.widths = (256, 128)
  if arg == "cifar10_resnet18":
    objective.joint = False
    objective.projector.widths = (2048, 256)
    objective.projector.update(
      hidden_bias=True, last_bias=True, hidden_norm=False, last_norm="none"
    )
    optimizer.base_learning_rate = 0.4
  elif arg == "resnet50":
    objective.temperature = 0.1
    objective.weight = 2.0  # the authors' program sums the two directions
    objective.projector.widths = (2048, 2048, 128)
    config.batch_size = 4096
    config.epochs = 100
    optimizer.name = "lars"
    optimizer.base_learning_rate = 0.3
    optimizer.rate_inside_momentum = True
    optimizer.weight_decay = 1e-4
  return config
