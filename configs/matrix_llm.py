"""Matrix cross-entropy beside cross-entropy, on language models.

Command:   python launch/finetune_language.py --config=configs/matrix_llm.py
Cost:      generated arithmetic: 1 min 23 s on 2 CPU cores (extra `language`).
Number:    exact match 44.7 ± 5.6 % with cross-entropy, 46.6 ± 6.0 % with both
           (three seeds, measured here; mmae_jax/language/README.md).

  :gsm8k_llemma_7b   MetaMath's recipe on Llemma-7B with the matrix term;
                     --config.model.folder=DIR --config.data.train=FILE.json
                     --config.data.test=FILE.jsonl. Published: GSM8K 72.3, MATH
                     30.2, with cross-entropy alone 69.2 and 30.0 (Zhang et al.
                     2023, arXiv 2305.17326, as quoted by public reviews). Run
                     on tiny files here: not run at full size. Cost unknown.
"""

from mmae_jax import recipes

ARGUMENTS = recipes.LANGUAGE


def get_config(arg=None):
  """The config; `arg` is what stands behind the colon."""
  return recipes.language("matrix_llm", arg)
