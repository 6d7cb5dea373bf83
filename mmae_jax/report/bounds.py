"""The page of a sweep on entropy and reconstruction, over all its runs."""

import base64
from collections.abc import Sequence
import html
from pathlib import Path

from mmae_jax.report import planes
from mmae_jax.report.comparison import Row

PANELS = {
  "er_entropy": "Entropy of the branches (nats)",
  "er_reconstruction": "Reconstruction loss (nats)",
  "er_bound": "Entropy - reconstruction (nats)",
  "er_classes_assignment_entropy": "Classes: H of the assignments",
  "er_classes_entropy": "Classes: H of the predicted",
  "er_classes_reconstruction": "Classes: reconstruction loss",
  "er_classes_bound": "Classes: H of targets - rec. loss",
  "probe_accuracy": "Online probe (share of the batch)",
  "knn_accuracy": "k-NN (share of the test images)",
}
_REFERENCES = {
  "er_entropy": "er_uniform_entropy",
  "er_bound": "er_ceiling",
  **{
    name: "er_classes_ceiling"
    for name in (
      *("er_classes_assignment_entropy", "er_classes_entropy"),
      "er_classes_bound",
    )
  },
}
_NOTE = (
  "Line: mean of the seeds; band: least to\nlargest. Dotted: a ceiling; of the"
  "\nentropy of branches: uniform rows."
)
_TEXT = (
  "The bound I(Z1; Z2) &ge; H(Z2) + E log q(Z2 | Z1) of every method, measured"
  " on a fixed set of images in the views of training. The first three panels"
  " take the two branches as points on the sphere: a kernel estimate of the"
  " entropy (von Mises-Fisher, kappa 10, mean of both branches) and the"
  " reconstruction loss of paired rows. Those on classes are of the methods"
  " that have prototypes, centroids or a softmax: the entropy of the mean"
  " distribution that view 1 predicts, that of the classes which view 2's"
  " images are assigned to, and the cross-entropy between them. Dotted: the"
  " entropy of rows spread uniformly over the sphere, in closed form; elsewhere"
  " what a curve cannot exceed, log k of k images or of k classes. Curves of"
  " different"
  " dimensions, classes or numbers of images do not compare in height."
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b2430;
  margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
img { max-width: 100%; }
pre { overflow-x: auto; font-size: 0.8rem; padding: 1rem;
  background: #f5f6f8; }
"""


def write_bounds(
  out: Path, rows: Sequence[Row], *, command: str, table: str
) -> Path | None:
  """Draws entropy, reconstruction and accuracy over epochs into one page.

  Args:
    out: the sweep's folder; gets entropy.html, .png and .csv.
    rows: the runs; those that are not finished do not count.
    command: the command line that made the sweep.
    table: the text of table.md, which the page repeats.
  Returns:
    The path of entropy.html; None where no run measured anything of it.
  """
  figure = planes.write_figure(
    out,
    rows,
    name="entropy",
    panels=PANELS,
    note=_NOTE,
    references=_REFERENCES,
  )
  if figure is None:
    return None
  picture = base64.b64encode(figure.read_bytes()).decode()
  path = out / "entropy.html"
  path.write_text(
    f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Entropy and reconstruction</title>
<style>{_STYLE}</style>
<h1>Entropy and reconstruction</h1>
<p>{_TEXT}</p>
<img alt="curves over epochs" src="data:image/png;base64,{picture}">
<h2>Where the runs ended</h2>
<pre>{html.escape(table)}</pre>
<p>Numbers of the curves: entropy.csv. Made by</p>
<pre>{html.escape(command)}</pre>
</html>
"""
  )
  return path
