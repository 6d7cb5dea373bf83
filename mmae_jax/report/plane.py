"""The section on the information plane, from its records and spectra."""

from collections.abc import Iterator, Sequence

import numpy as np

from mmae_jax.report import plots
from mmae_jax.report.quantities import (
  BLUE,
  FIRST,
  ORANGE,
  ROSE,
  SLATE,
  TEAL,
)
from mmae_jax.report.run import Run
from mmae_jax.report.section import Section, figure, lead, panels

_SIDES = ("sample", "feature")
_MOST_SPECTRA = 11
# What the branches of the methods are called for people.
_BRANCHES = {
  "prediction": "the prediction from view 1",
  "projection": "the projection of view 2",
  "student": "the student on view 1",
  "teacher": "the teacher on view 2",
}
_RANKS = {
  "a": ("a", BLUE),
  "b": ("b", TEAL),
  "once": ("a, one norm", FIRST),
  "twice": ("a, two norms", FIRST),
}
_CAPTIONS = {
  "plane_sample": "Matrices of cosines between images. On the dotted line all"
  " that one branch tells is in the other too.",
  "plane_feature": "Correlation matrices of the features, without their mean.",
  "plane_spectrum": "The steeper the fall, the fewer directions: dimensional"
  " collapse. All in the first is collapse.",
  "plane_alignment": "Mean squared distance of both unit features of an image;"
  " 0 is perfect agreement, 2 none.",
  "plane_sample_2": "Order 2 needs no eigenvalues; its mutual information may"
  " be negative.",
  "plane_er_terms": "ER's kernel estimate of the entropy of the branches' unit"
  " rows, what it is for rows spread uniformly, and the reconstruction loss.",
  "plane_er_bound": "ER's estimate, entropy less reconstruction. Its kernel"
  " smooths, so it is no certain bound of the mutual information; it cannot"
  " exceed log k (grey) for k images, and near that it tells about k.",
  "plane_er_classes": "Entropy of the mean class distribution that view 1"
  " predicts, and of the classes that images of view 2 are assigned to: 0 is"
  " one class for all, log K (grey) an even use of the K classes.",
  "plane_effective_rank": "Of the second moment, the mean not taken off.",
  "plane_coding_rate": "M-MAE's log-determinant of branch a.",
  "plane_mean_squared_cosine": "U-MAE's regulariser of branch a; 1 is"
  " collapse, 1 / dimension the least for many images.",
}


def information_plane(run: Run) -> Section:
  """Entropy against mutual information over time, with what explains it."""
  title = "Information plane"
  records = run.of("plane")
  if not records:
    return Section(title, note="it was not measured")
  spectrums = run.artifacts("plane", most=_MOST_SPECTRA)
  figures = {f"plane_{name}": png for name, png in _draw(run, spectrums)}
  parts = [
    figure(png, alt=name.replace("_", " "), caption=_CAPTIONS.get(name, ""))
    for name, png in figures.items()
  ]
  return Section(title, _lead(records[-1], spectrums) + panels(parts), figures)


def _lead(record, spectrums):
  """How to read the section."""
  branches = "Two branches, a and b,"
  if spectrums and "names" in spectrums[-1][1]:
    names = [
      _BRANCHES.get(str(name), str(name).replace("_", " "))
      for name in spectrums[-1][1]["names"]
    ]
    branches = f"The branches a ({names[0]}) and b ({names[1]})"
  text = f"{branches} of the same images at every step"
  if "rows" in record:
    text += f" ({record['rows']:,}"
    some = record.get("sample_rows", record["rows"])
    if some != record["rows"]:
      text += f"; {some:,} for the sample side of order 1"
    text += ")"
  return lead(
    "{}. Mutual information of matrices is mostly uniformity: it grows with"
    " the entropies, whether the branches agree or not. Whether they do is"
    " what the alignment says. Numbers depend on the number of images: compare"
    " runs at equal ones.",
    text,
  )


def _draw(
  run: Run, spectrums: Sequence[tuple[int, dict]]
) -> Iterator[tuple[str, bytes]]:
  """(name, PNG) of all panels, in the order of the page."""
  for side in _SIDES:
    entropy = run.series("plane", f"{side}_entropy_1_a")
    shared = run.series("plane", f"{side}_mutual_information_1")
    if len(entropy.steps) and np.array_equal(entropy.steps, shared.steps):
      yield (
        side,
        plots.trajectory(
          f"{side.capitalize()} side (nats)",
          entropy.steps,
          entropy.values,
          shared.values,
          labels=("entropy of branch a", "mutual information"),
        ),
      )
  if spectrums:
    spectra = [
      (step, np.asarray(arrays["eigenvalues_a"], np.float64))
      for step, arrays in spectrums
    ]
    drawn = plots.spectra_over_time("Eigenvalues of branch a", spectra)
    yield "spectrum", drawn
  for side in _SIDES:
    for order in (1, 2):
      lines = (
        (f"{side}_entropy_{order}_a", "H a", BLUE),
        (f"{side}_entropy_{order}_b", "H b", TEAL),
        (f"{side}_joint_entropy_{order}", "joint", SLATE),
        (f"{side}_mutual_information_{order}", "I", ROSE),
      )
      title = f"{side.capitalize()} side, order {order}"
      yield from _curves(run, f"{side}_{order}", title, lines, "nats")
    if side == "sample":
      lines = (("alignment", "", ORANGE),)
      yield from _curves(run, "alignment", "Alignment", lines)
  prefix = "effective_rank_"
  ranks = [n for n in run.names("plane") if n.startswith(prefix)]
  lines = [
    (rank, *_RANKS.get(name, (name.replace("_", " "), SLATE)))
    for rank, name in ((rank, rank.removeprefix(prefix)) for rank in ranks)
  ]
  yield from _curves(run, "effective_rank", "Effective rank", lines)
  lines = (
    ("er_entropy", "H", ORANGE),
    ("er_uniform_entropy", "H of uniform rows", FIRST),
    ("er_reconstruction", "reconstruction", TEAL),
  )
  yield from _curves(run, "er_terms", "On the sphere", lines, "nats")
  lines = (
    ("er_bound", "bound", ROSE),
    ("er_ceiling", "log k", FIRST),
  )
  yield from _curves(run, "er_bound", "ER bound", lines, "nats")
  lines = (
    ("er_classes_entropy", "H predicted", BLUE),
    ("er_classes_assignment_entropy", "H assigned", TEAL),
    ("er_classes_reconstruction", "reconstruction", ORANGE),
    ("er_classes_ceiling", "log K", FIRST),
  )
  yield from _curves(run, "er_classes", "Classes", lines, "nats")
  lines = (("coding_rate", "", BLUE),)
  yield from _curves(run, "coding_rate", "Coding rate", lines, "nats")
  lines = (("mean_squared_cosine", "", SLATE),)
  yield from _curves(run, "mean_squared_cosine", "Mean squared cosine", lines)


def _curves(run, name, title, lines, unit=""):
  """One panel of those quantities that were recorded, or none."""
  drawn = []
  for quantity, label, colour in lines:
    series = run.series("plane", quantity)
    if len(series.steps):
      drawn.append(plots.Line(label, series.steps, series.values, colour))
  if drawn:
    yield name, plots.curves(title, drawn, unit=unit, marks=run.restarts())
