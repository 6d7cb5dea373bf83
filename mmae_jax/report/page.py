"""Assembles report.html from the sections and writes it beside its PNGs."""

from collections.abc import Callable, Sequence
import datetime
from importlib import resources
import re

from absl import logging

from mmae_jax.report import charts, facts, pictures, plane
from mmae_jax.report.run import Run, read_run
from mmae_jax.report.section import Section

SECTIONS: tuple[Callable[[Run], Section], ...] = (
  facts.alarms,
  charts.accuracies,
  charts.losses,
  charts.feature,
  plane.information_plane,
  pictures.reconstructions,
  pictures.neighbours,
  charts.optimisation,
  charts.speed,
  facts.rejected,
  facts.history,
  facts.configuration,
)


def write_report(
  workdir,
  *,
  config=None,
  sections: Sequence[Callable[[Run], Section]] = SECTIONS,
):
  """Draws a run into one file that needs no network and no other file.

  Args:
    workdir: the run's folder; only its files are read.
    config: the resolved config; None reads config.json.
    sections: functions of the run, in the order of the page.
  Returns:
    The path of report.html; the PNGs are in workdir/figures.
  """
  run = read_run(workdir, config=config)
  drawn = [_drawn(section, run) for section in sections]
  return write_page(run.workdir, facts.headline(run), drawn)


def write_page(workdir, head: facts.Headline, sections: Sequence[Section]):
  """Writes report.html, and the figures of its sections as PNGs.

  Args:
    workdir: a folder, an epath.Path.
    head: what the page opens with.
    sections: in the order of the page.
  Returns:
    The path of report.html; the PNGs are in workdir/figures.
  """
  folder = workdir / "figures"
  folder.mkdir(parents=True, exist_ok=True)
  for section in sections:
    for name, png in section.figures.items():
      (folder / f"{_file_name(name)}.png").write_bytes(png)
  path = workdir / "report.html"
  # By way of a second file, so that a reader never meets half a page.
  partial = workdir / "report.html.partial"
  partial.write_text(_page(head, sections))
  return partial.replace(path)


def _drawn(section: Callable[[Run], Section], run: Run) -> Section:
  try:
    return section(run)
  except Exception as error:  # A report must not end a run.
    logging.exception("report: %s could not be drawn", section.__name__)
    title = section.__name__.replace("_", " ").capitalize()
    reason = f"could not be drawn ({type(error).__name__}: {error})"
    return Section(title, note=reason)


def _page(head: facts.Headline, sections: Sequence[Section]) -> str:
  import jinja2

  source = resources.files("mmae_jax.report").joinpath("template.html.jinja")
  environment = jinja2.Environment(autoescape=True, trim_blocks=True)
  shown = [section for section in sections if section.html]
  now = datetime.datetime.now(datetime.UTC)
  return environment.from_string(source.read_text("utf-8")).render(
    head=head,
    sections=[(_file_name(section.title), section) for section in shown],
    missing=[section for section in sections if not section.html],
    written=now.strftime("%Y-%m-%d %H:%M UTC"),
  )


def _file_name(title: str) -> str:
  return re.sub(r"[^a-z0-9_-]+", "-", title.lower()).strip("-") or "section"
