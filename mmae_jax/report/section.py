"""What a section of the report is, and the pieces of HTML it is made of.

Everything goes through `Markup.format`, which escapes its arguments.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup


class Section(NamedTuple):
  """A part of the page; one without html is named with its note instead.

  Attributes:
    title: the heading.
    html: escaped markup; empty if there is nothing to show.
    figures: PNG files by name without ending; they go to workdir/figures.
    note: why there is nothing to show, in one line.
  """

  title: str
  html: str = ""
  figures: Mapping[str, bytes] = {}
  note: str = ""


def data_url(png: bytes) -> str:
  """A PNG as the source of an <img> that needs no other file."""
  return "data:image/png;base64," + base64.b64encode(png).decode()


def figure(
  png: bytes, *, alt: str, caption: str = "", kind: str = "panel"
) -> Markup:
  """One picture with its text alternative and an optional caption."""
  return Markup('<figure class="{}"><img src="{}" alt="{}">{}</figure>').format(
    kind,
    data_url(png),
    alt,
    Markup("<figcaption>{}</figcaption>").format(caption) if caption else "",
  )


def panels(parts: Iterable[str]) -> Markup:
  """Figures and tables beside one another, as many as fit."""
  return Markup('<div class="panels">{}</div>').format(Markup("").join(parts))


def lead(text: str, *values) -> Markup:
  """A sentence that says how to read what follows."""
  return Markup('<p class="lead">{}</p>').format(Markup(text).format(*values))


def table(
  header: Sequence[str],
  rows: Iterable[Sequence[object]],
  *,
  kind: str = "",
) -> Markup:
  """A table; cells are escaped."""
  cell = Markup("<td>{}</td>")
  row = Markup("<tr>{}</tr>")
  head = Markup("").join(Markup("<th>{}</th>").format(name) for name in header)
  body = Markup("").join(
    row.format(Markup("").join(cell.format(value) for value in values))
    for values in rows
  )
  if header:
    head = Markup("<thead><tr>{}</tr></thead>").format(head)
  return Markup(
    '<div class="scroll"><table class="{}">{}<tbody>{}</tbody></table></div>'
  ).format(kind, head, body)
