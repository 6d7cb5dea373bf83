"""Matrix information theory: pure functions, arrays in, nats out."""

from mmae_jax.information import (
  bounds as bounds,
  theory as theory,
)
from mmae_jax.information.categorical import (
  categorical_entropy as categorical_entropy,
  categorical_reconstruction as categorical_reconstruction,
)
from mmae_jax.information.coding_rate import (
  coding_rate as coding_rate,
  maximum_entropy_coding as maximum_entropy_coding,
  mean_squared_cosine as mean_squared_cosine,
  paper_scale as paper_scale,
  ridge_from_epsilon_squared as ridge_from_epsilon_squared,
  scale_from_epsilon_squared as scale_from_epsilon_squared,
  total_coding_rate as total_coding_rate,
  umae_weight as umae_weight,
)
from mmae_jax.information.density import (
  check_density as check_density,
  density_matrix as density_matrix,
)
from mmae_jax.information.divergence import (
  matrix_cross_entropy as matrix_cross_entropy,
  matrix_kl as matrix_kl,
  unnormalised_entropy as unnormalised_entropy,
)
from mmae_jax.information.entropy import (
  conditional_entropy as conditional_entropy,
  effective_rank as effective_rank,
  entropy_difference_ratio as entropy_difference_ratio,
  joint_entropy as joint_entropy,
  matrix_entropy as matrix_entropy,
  mutual_information as mutual_information,
  mutual_information_ratio as mutual_information_ratio,
  rankme as rankme,
  spectral_entropy as spectral_entropy,
)
from mmae_jax.information.logarithm import matrix_log as matrix_log
from mmae_jax.information.spectra import (
  centre_rows as centre_rows,
  correlation as correlation,
  cosine_gram as cosine_gram,
  covariance as covariance,
  feature_spectrum as feature_spectrum,
  gram as gram,
  normalise_rows as normalise_rows,
  spectrum as spectrum,
  unit_diagonal as unit_diagonal,
  unit_trace as unit_trace,
)
from mmae_jax.information.sphere import (
  er_loss as er_loss,
  gaussian_reconstruction as gaussian_reconstruction,
  generalised_normal_reconstruction as generalised_normal_reconstruction,
  vmf_entropy as vmf_entropy,
  vmf_reconstruction as vmf_reconstruction,
)
from mmae_jax.information.traces import matrix_ssl_terms as matrix_ssl_terms
from mmae_jax.information.von_mises_fisher import (
  von_mises_fisher_log_normaliser as von_mises_fisher_log_normaliser,
)
