"""SimCLR+ER: SimCLR's networks on the entropy-reconstruction bound.

Command:   python launch/train.py --config=configs/simclr_er.py
Cost:      embedded digits: 93 s on 2 CPU cores.
Number:    k-NN 92.5 %, linear 98.1 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 78.8 %, linear 80.5 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, SimCLR's setting; no published number.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, 400 epochs, batch 4096: 70.86 linear probe (the
                     paper's table 2).
  :batch512          the same with batch 512: 69.85 (1.01 less, table 2).
"""

from mmae_jax import recipes

ARGUMENTS = (*recipes.JOINT_EMBEDDING, "batch512")


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.joint_embedding(
    "simclr_er",
    arg,
    augmentation="simclr",
    cifar="solo_learn_symmetric",
    arguments=ARGUMENTS,
  )
  recipes.on_the_sphere(config)
  objective = config.objective
  objective.joint = True
  objective.projector.widths = (256, 128)
  if arg == "cifar10_resnet18":
    objective.kappa = 5.0  # SimCLR's temperature there is 0.2
    objective.joint = False
    objective.projector.widths = (2048, 256)
    objective.projector.update(
      hidden_bias=True, last_bias=True, hidden_norm=False, last_norm="none"
    )
    config.optimizer.base_learning_rate = 0.4
  elif arg in recipes.ER:
    objective.projector.widths = (2048, 2048, 128)
    recipes.like_er(config, arg)
    config.optimizer.rate_inside_momentum = True  # as SimCLR
  return config
