"""MoCo v2: a query, its key, and a queue of former keys.

Command:   python launch/train.py --config=configs/moco_v2.py
Cost:      embedded digits: 84 s on 2 CPU cores.
Number:    k-NN 87.2 %, linear 92.8 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: at most 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 77.7 %, linear 80.0 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, near solo-learn's setting of MoCo v2+, whose
                     momentum grows to 0.999; number unknown.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, 200 epochs, batch 256: 67.5 ± 0.1 linear probe
                     (the authors' README).
"""

from mmae_jax import recipes

ARGUMENTS = recipes.JOINT_EMBEDDING


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.joint_embedding(
    "moco_v2", arg, augmentation="moco_v2", cifar="solo_learn_symmetric_weak"
  )
  objective, optimizer = config.objective, config.optimizer
  objective.temperature = 0.2
  objective.momentum = 0.99
  objective.queue_size = 1024
  objective.projector.widths = (256, 128)
  optimizer.decay = "all"
  if arg == "cifar10_resnet18":
    objective.queue_size = 32_768
    objective.projector.widths = (2048, 256)
    optimizer.name = "sgd"
    optimizer.base_learning_rate = 0.3
  elif arg == "resnet50":
    objective.momentum = 0.999
    objective.queue_size = 65_536
    objective.projector.widths = (2048, 128)
    # Statistics over the 32 images of one of 8 GPUs, shuffled for the keys.
    config.encoder.group_size = 32
    config.encoder.zero_init_last = False  # recollection, not verified
    config.batch_size = 256
    config.epochs = 200
    optimizer.name = "sgd"
    optimizer.base_learning_rate = 0.03
    optimizer.warmup_epochs = 0.0
    optimizer.schedule_per = "epoch"  # recollection, not verified
    optimizer.weight_decay = 1e-4
  return config
