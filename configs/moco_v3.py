"""MoCo v3: contrast with a momentum encoder, without a queue.

Command:   python launch/train.py --config=configs/moco_v3.py
Cost:      embedded digits: 124 s on 2 CPU cores.
Number:    k-NN 91.4 %, linear 95.6 % (one seed, measured here; raw pixels:
           k-NN 97.5 %; the untrained network: at most 17.2 %).

  :fashion_mnist     --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                     k-NN 77.2 %, linear 79.7 % with 20,000 images (one seed,
                     measured here).
  :cifar10_resnet18  CIFAR-10, near solo-learn's setting, 1000 epochs; its
                     README: 93.10 linear.
  :resnet18          224 px, --config.data.folder=/my/images; own data.
  :resnet50          ImageNet, 100 epochs, batch 4096: 68.9 linear probe (the
                     authors' repository).
  :vit_s16           ImageNet, 300 epochs, batch 4096: 73.2 linear probe (the
                     authors' repository).
"""

from mmae_jax import augmentations, recipes
from mmae_jax.models import vit_size

ARGUMENTS = (*recipes.JOINT_EMBEDDING, "vit_s16")


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.joint_embedding(
    "moco_v3", arg, augmentation="moco_v3", arguments=ARGUMENTS
  )
  objective, optimizer = config.objective, config.optimizer
  objective.temperature = 0.2
  objective.momentum = 0.99
  objective.freeze_patch_embedding = False
  objective.projector.widths = (256, 128)
  objective.predictor = {"widths": (256, 128)}
  if arg == "cifar10_resnet18":
    objective.projector.widths = (4096, 256)
    objective.predictor.widths = (4096, 256)
    optimizer.base_learning_rate = 0.3
    optimizer.weight_decay = 1e-6
  elif arg == "resnet50":
    objective.temperature = 1.0
    objective.projector.widths = (4096, 256)
    objective.predictor.widths = (4096, 256)
    config.batch_size = 4096  # recollection, not verified
    config.epochs = 100
    config.encoder.dtype = "bfloat16"  # theirs: mixed float16
    optimizer.name = "lars"
    optimizer.base_learning_rate = 0.6
    optimizer.weight_decay = 1e-6
  elif arg == "vit_s16":
    objective.freeze_patch_embedding = True
    objective.projector.widths = (4096, 4096, 256)
    objective.predictor.update(widths=(4096, 256), last_norm="plain")
    config.views["global"].update(augmentations.views("moco_v3_vit"))
    config.encoder.update(name="vit", **vit_size("s16"))
    config.encoder.heads = 12  # and not 6
    config.encoder.dtype = "bfloat16"  # theirs: mixed float16
    config.batch_size = 4096  # recollection, not verified
    config.epochs = 300
    optimizer.name = "adamw"
    optimizer.base_learning_rate = 1.5e-4
    optimizer.b2 = 0.999  # recollection, not verified
    optimizer.weight_decay = 0.1
    optimizer.decay = "all"  # recollection, not verified
    optimizer.warmup_epochs = 40.0
  return config
