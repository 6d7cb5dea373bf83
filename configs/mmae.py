"""M-MAE: masked autoencoding with a log-det coding rate.

Command:   python launch/train.py --config=configs/mmae.py
Cost:      embedded digits: about 70 s on 2 CPU cores.
Number:    k-NN 87.3 ± 2.2 %, linear 91.2 ± 0.6 % (three seeds, measured here;
           README.md, Results).

  :fashion_mnist   --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                   k-NN 74.2 %, linear 76.6 % with 20,000 images (one seed,
                   measured here; README.md, Results). 253 s on 2 CPU cores.
  :cifar10         --config.data.dir=DIR; number unknown; not run at full size.
  :vit_ti8         64 px, --config.data.folder=/my/images; own data.
  :vit_s16         224 px, --config.data.folder=/my/images; own data.
  :vit_b16         ImageNet, 200 epochs, batch 1024: 62.4 linear probe, 83.1
                   fine-tuned (Tan et al. 2023, arXiv 2309.17281, Table 1, as
                   quoted by secondary sources). Cost unknown.
  :vit_l16         the same: 66.0 linear probe, 84.3 fine-tuned. Cost unknown.

The two ImageNet recipes were run shrunk only: not run at full size.
"""

from mmae_jax import recipes

ARGUMENTS = recipes.MASKED


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.masked("mmae", arg, arguments=ARGUMENTS)
  # The published 0.01 on 8 GPUs: the authors' gather keeps only the local part
  # of the gradient, which data-parallel averaging divides by their number.
  config.objective.weight = 0.01 / 8
  config.objective.scale = 1.0  # the papers' mu
  config.objective.normaliser = "feature_dim"
  config.objective.centre = False
  config.objective.normalise_twice = True
  if arg in ("vit_b16", "vit_l16"):
    config.batch_size = 1024
    config.epochs = 200
    # For ViT-B the warm-up and the probe's rate are unknown: the script's.
    config.evaluation.linear.batch_size = 8192
    config.evaluation.linear.base_learning_rate = 0.05
    config.evaluation.linear.bn_group_size = 256
  if arg == "vit_l16":
    config.objective.scale = 3.0
  return config
