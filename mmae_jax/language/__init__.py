"""Fine-tuning of language models with matrix cross-entropy, on tunix.

Needs the extra `language`; tunix is imported inside functions alone, so that
everything else of mmae_jax, and the pure parts of this folder (`answers`,
`arithmetic`, `template`, `metamath`), work without it. The page beside this
file says what of the paper is known and how to run its recipe.
"""
