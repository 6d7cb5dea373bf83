"""Matrix information theory: pure functions, arrays in, nats out."""

from mmae_jax.information.coding_rate import (
  coding_rate as coding_rate,
  mean_squared_cosine as mean_squared_cosine,
)
from mmae_jax.information.entropy import (
  effective_rank as effective_rank,
  matrix_entropy as matrix_entropy,
  spectral_entropy as spectral_entropy,
)
from mmae_jax.information.spectra import (
  centre_rows as centre_rows,
  feature_spectrum as feature_spectrum,
  gram as gram,
  normalise_rows as normalise_rows,
  spectrum as spectrum,
  unit_trace as unit_trace,
)
