"""MAE: masked autoencoding.

Command:   python launch/train.py --config=configs/mae.py
Cost:      embedded digits: about 70 s on 2 CPU cores.
Number:    k-NN 87.0 ± 0.9 %, linear 92.2 ± 1.5 % (three seeds, measured here;
           README.md, Results).

  :fashion_mnist   --config.data.folder=FOLDER (launch/prepare_data.py --idx);
                   k-NN 73.6 %, linear 77.2 % with 20,000 images (one seed,
                   measured here; README.md, Results). 467 s, other jobs beside.
  :cifar10         --config.data.dir=DIR; number unknown; not run at full size.
  :vit_ti8         64 px, --config.data.folder=/my/images; own data.
  :vit_s16         224 px, --config.data.folder=/my/images; own data.
  :vit_b16         ImageNet, 1600 epochs, batch 4096: 67.8 linear probe, 83.6
                   fine-tuned (the authors' PyTorch program). Cost unknown.
  :vit_l16         the same: 76.0 linear probe, 85.9 fine-tuned.
  :vit_h14         the same: 77.2 linear probe, 86.9 fine-tuned.

The three ImageNet recipes (He et al. 2022, arXiv 2111.06377) were run shrunk
only: not run at full size.
"""

from mmae_jax import recipes

ARGUMENTS = (*recipes.MASKED, "vit_h14")


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  config = recipes.masked("mae", arg, arguments=ARGUMENTS)
  config.objective.normalise_twice = True
  if arg in ("vit_b16", "vit_l16", "vit_h14"):
    config.batch_size = 4096
    config.epochs = 1600
    config.evaluation.linear.batch_size = 16384
    config.evaluation.linear.base_learning_rate = 0.1
    config.evaluation.linear.bn_group_size = 512
    if arg != "vit_b16":
      config.evaluation.linear.epochs = 50
  return config
