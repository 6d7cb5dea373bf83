"""A report's page as its reader sees it."""

import html.parser
import re

_VOID = {"meta", "link", "img", "br"}


class _Checker(html.parser.HTMLParser):
  """Collects text and sources, and sees that every tag is closed."""

  def __init__(self):
    super().__init__()
    self.open, self.text, self.sources = [], [], []

  def handle_starttag(self, tag, attrs):
    if tag not in _VOID:
      self.open.append(tag)
    self.sources += [v for k, v in attrs if k in ("src", "href", "srcset")]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] not in ("style", "script"):
      self.text.append(data)


def read(path) -> str:
  """The visible text of a page that is sound and needs nothing else."""
  checker = _Checker()
  checker.feed(path.read_text())
  assert not checker.open
  for source in checker.sources:
    assert source.startswith(("data:", "#")), source[:80]
  assert path.stat().length < 3_000_000
  return re.sub(r"\s+", " ", " ".join(checker.text))
