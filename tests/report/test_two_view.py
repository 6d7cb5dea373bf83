"""The report of a method that compares two views of an image."""

import pytest
from report.fake_run import make_two_view
from report.pages import read

from mmae_jax import objectives
from mmae_jax.report import quantities, write_report


def test_the_page_shows_what_such_a_run_records(tmp_path):
  workdir = make_two_view(
    tmp_path,
    "matrix_ssl",
    ("student", "teacher"),
    lambda share: {
      "uniformity": -0.5 * share,
      "alignment": -0.25 * share,
      "embedding_std": 0.2 + share,
      "momentum": 0.99 + 0.01 * share,
    },
  )
  path = write_report(workdir)
  text = read(path)
  for said in (
    "Matrix-SSL on digits finished",
    "The branches a (the student on view 1) and b (the teacher on view 2) of",
    "0 is collapse, about 1 the sphere filled evenly.",
    "Without its weight.",
    "1 leaves the teacher as it is.",
    "Reconstructions: the method compares views.",
  ):
    assert said in text, said
  assert "could not be drawn" not in text
  assert "reconstruction error" not in text.lower()
  pngs = {png.stem for png in (workdir / "figures").glob("*.png")}
  assert pngs >= {"loss", "uniformity", "alignment", "embedding_std"}
  assert pngs >= {"momentum", "plane_alignment", "plane_effective_rank"}
  page = path.read_text()
  assert 'alt="Spread of the embeddings"' in page
  # A schedule stands with the learning rate and not among the losses.
  assert page.index("s momentum") > page.index('id="optimisation"')


def test_a_contrastive_loss_is_in_nats(tmp_path):
  workdir = make_two_view(
    tmp_path,
    "simclr",
    ("view_1", "view_2"),
    lambda share: {"embedding_std": 1.0, "momentum": 0.99},
  )
  text = read(write_report(workdir))
  assert "SimCLR on digits" in text
  assert "Loss 3 nats" in text
  assert "The branches a (view 1) and b (view 2) of the same images" in text
  assert "The same at all steps: Spread of the embeddings 1." in text


@pytest.mark.parametrize(
  ("name", "objective", "unit", "note"),
  [
    ("loss", "simclr", "nats", ""),
    ("loss", "moco_v2", "nats", ""),
    ("loss", "moco_v3", "", ""),
    ("loss", "barlow_twins", "", ""),
    ("off_diagonal", "barlow_twins", "", "Without its weight."),
    ("variance", "vicreg", "", "Without its weight."),
    ("variance", "my_lab.mine", "", ""),
  ],
)
def test_units_and_notes_are_those_of_the_method(name, objective, unit, note):
  known = quantities.quantity(name, objective=objective)
  assert (known.unit, known.note) == (unit, note)


def test_every_method_has_its_name():
  methods = objectives.available()
  assert not [name for name in methods if quantities.method_name(name) == name]
