"""Matrix information theory: pure functions, arrays in, nats out."""

from mmae_jax.information.coding_rate import (
  coding_rate as coding_rate,
)
from mmae_jax.information.coding_rate import (
  mean_squared_cosine as mean_squared_cosine,
)
from mmae_jax.information.entropy import (
  effective_rank as effective_rank,
)
from mmae_jax.information.entropy import (
  matrix_entropy as matrix_entropy,
)
from mmae_jax.information.entropy import (
  spectral_entropy as spectral_entropy,
)
from mmae_jax.information.spectra import (
  centre_rows as centre_rows,
)
from mmae_jax.information.spectra import (
  feature_spectrum as feature_spectrum,
)
from mmae_jax.information.spectra import (
  gram as gram,
)
from mmae_jax.information.spectra import (
  normalise_rows as normalise_rows,
)
from mmae_jax.information.spectra import (
  spectrum as spectrum,
)
from mmae_jax.information.spectra import (
  unit_trace as unit_trace,
)
