"""Matrix information theory: pure functions, arrays in, nats out."""

from mmae_jax.information import (
  bounds as bounds,
  theory as theory,
)
from mmae_jax.information.bias import (
  BiasWarning as BiasWarning,
  entropy_bias as entropy_bias,
  samples_for as samples_for,
  warn_of_bias as warn_of_bias,
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
from mmae_jax.information.estimators import (
  stochastic_effective_rank as stochastic_effective_rank,
  stochastic_entropy as stochastic_entropy,
  stochastic_log_det as stochastic_log_det,
  stochastic_trace as stochastic_trace,
)
from mmae_jax.information.logarithm import matrix_log as matrix_log
from mmae_jax.information.moments import (
  Moments as Moments,
  empty_moments as empty_moments,
  merge_moments as merge_moments,
  merge_stacked_moments as merge_stacked_moments,
  moments_covariance as moments_covariance,
  moments_entropy as moments_entropy,
  update_moments as update_moments,
)
from mmae_jax.information.relation_cross_entropy import (
  relation_matrix_cross_entropy as relation_matrix_cross_entropy,
)
from mmae_jax.information.sampling import (
  random_feature_joint_entropy as random_feature_joint_entropy,
  subsampled_entropy as subsampled_entropy,
  subsampled_joint_entropy as subsampled_joint_entropy,
)
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
  mean_cosine as mean_cosine,
  vmf_entropy as vmf_entropy,
  vmf_reconstruction as vmf_reconstruction,
  vmf_uniform_entropy as vmf_uniform_entropy,
)
from mmae_jax.information.token_cross_entropy import (
  check_token_embeddings as check_token_embeddings,
  token_matrix_cross_entropy as token_matrix_cross_entropy,
)
from mmae_jax.information.traces import matrix_ssl_terms as matrix_ssl_terms
from mmae_jax.information.von_mises_fisher import (
  von_mises_fisher_log_normaliser as von_mises_fisher_log_normaliser,
)
