"""What a run is and how it went: headline, history, config, rejected files."""

from collections import Counter
from collections.abc import Iterator, Mapping
import datetime
import json
import math
from typing import NamedTuple

from markupsafe import Markup
import numpy as np

from mmae_jax.config import flatten
from mmae_jax.report.charts import typical_speed
from mmae_jax.report.quantities import method_name, quantity, readable
from mmae_jax.report.run import Run
from mmae_jax.report.section import Section, lead, table
from mmae_jax.train.console import duration

_MOST_REJECTED = 50
_MOST_ALARMS = 12


class Tile(NamedTuple):
  """One number of the headline."""

  label: str
  value: str
  note: str = ""


class Headline(NamedTuple):
  """What the page opens with.

  Attributes:
    method: the method's name as its paper writes it.
    dataset: the tfds name or the folder.
    status: "finished", "stopped", ..., and `tone`, its class in the page.
    summary: one line below the title.
    tiles: the numbers.
  """

  method: str
  dataset: str
  status: str
  tone: str
  summary: str
  tiles: list[Tile]


def headline(run: Run) -> Headline:
  """Everything that should be read at a glance."""
  sessions = run.sessions()
  status = sessions[-1].status if sessions else "no records"
  tone = {"finished": "good", "stopped": "warn"}.get(status, "bad")
  if status in ("no end recorded", "no records"):
    tone = "open"
  name = run.get("objective", "name") or run.get("name", default="")
  folder = run.get("data", "folder", default="")
  dataset = folder or run.get("data", "name", default="unknown data")
  header = run.header()
  begun = sessions[0].time if sessions else 0.0
  summary = [
    str(run.workdir),
    _moment(begun) if begun else "",
    str(header.get("devices", "")),
    f"commit {header['commit']}" if header.get("commit") else "",
  ]
  return Headline(
    method=method_name(str(name)),
    dataset=str(dataset),
    status=status,
    tone=tone,
    summary=" · ".join(part for part in summary if part),
    tiles=list(_tiles(run)),
  )


def alarms(run: Run) -> Section:
  """What went wrong by the run's own numbers, the newest first."""
  title = "Alarms"
  records = run.of("alarm")[::-1]
  if not records:
    return Section(title, note="none was raised")
  text = lead(
    '<b class="bad">{}</b> in all. Each comes once, and again only after a'
    " recovery. --config.on_alarm says what follows, --config.alarms has the"
    " thresholds.",
    f"{len(records):,}",
  )
  rows = [
    (
      f"{record['step']:,}",
      str(record["alarm"]).replace("_", " "),
      f"{str(record['quantity']).replace('_', ' ')}"
      f" {readable(record['value'], '')}",
      readable(record["threshold"], ""),
      record["cause"],
      record["advice"],
    )
    for record in records[:_MOST_ALARMS]
  ]
  header = ("Step", "Alarm", "Measured", "Threshold", "Likely cause", "To try")
  return Section(title, text + table(header, rows, kind="alarms"))


def rejected(run: Run) -> Section:
  """Files of the user's folder that are not readable images."""
  title = "Rejected files"
  entries = run.rejected()
  if not entries:
    return Section(title, note="no file was rejected")
  reasons = Counter(str(entry.get("reason", "")) for entry in entries)
  text = lead(
    "{} in all: {}.",
    f"{len(entries):,}",
    "; ".join(f"{n:,} x {reason}" for reason, n in reasons.most_common(6)),
  )
  rows = [
    (entry.get("file", ""), entry.get("reason", ""))
    for entry in entries[:_MOST_REJECTED]
  ]
  html = text + table(("File", "Reason"), rows)
  if len(entries) > _MOST_REJECTED:
    html += lead(
      "The first {} are shown; rejected.jsonl lists all.", _MOST_REJECTED
    )
  return Section(title, html)


def configuration(run: Run) -> Section:
  """The resolved config, keys written as the flags that change them."""
  title = "Configuration"
  if not run.config:
    return Section(title, note="config.json is missing")
  settings = flatten(run.config).items()
  rows = [(f"--config.{key}", json.dumps(value)) for key, value in settings]
  html = Markup(
    "<details><summary>{} settings, as flags</summary>{}</details>"
  ).format(len(rows), table((), rows, kind="config"))
  return Section(title, html)


def history(run: Run) -> Section:
  """The processes that worked on the run, their versions and commit."""
  title = "History and versions"
  sessions = run.sessions()
  if not sessions:
    return Section(title, note="no start was recorded")
  rows = [
    (
      _moment(session.time),
      f"{session.step:,} to {session.last_step:,}",
      duration(session.seconds),
      session.status,
    )
    for session in sessions
  ]
  html = table(("Start", "Steps", "Time", "End"), rows)
  header = run.header()
  versions = header.get("versions")
  facts = [("commit", header.get("commit", "unknown"))]
  if isinstance(versions, Mapping):
    facts.extend(versions.items())
  text = Markup("<dl>{}</dl>").format(
    Markup("").join(
      Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value)
      for name, value in facts
    )
  )
  return Section(title, html + text)


# ------------------------------------------------------------------- parts


def _tiles(run: Run) -> Iterator[Tile]:
  for name, label in (
    ("knn_accuracy", "k-NN accuracy"),
    ("linear_accuracy", "Linear accuracy"),
  ):
    series = run.series("eval", name)
    if not math.isnan(series.last):
      yield Tile(label, readable(series.last, "%"), _change(series, "%"))
  rank = run.series("eval", "effective_rank")
  if not math.isnan(rank.last):
    yield Tile("Effective rank", f"{rank.last:.3g}", _change(rank, ""))
  loss = run.series("train", "loss")
  if len(loss.steps):
    last = None if np.isnan(loss.values[-1]) else float(loss.values[-1])
    method = str(run.get("objective", "name", default=""))
    unit = quantity("loss", objective=method).unit
    yield Tile("Loss", readable(last, unit), _change(loss, ""))
  steps = [record["step"] for record in run.records]
  if steps:
    total = run.header().get("total_steps")
    epochs = run.series("train", "epoch").last
    note = f"of {total:,}" if isinstance(total, int) else ""
    if not math.isnan(epochs):
      note += f" · epoch {epochs:.4g}"
    done = max(session.last_step for session in run.sessions())
    yield Tile("Steps", f"{done:,}", note.strip(" ·"))
  rate = typical_speed(run)
  if rate is not None:
    waits = run.series("train", "data_wait").values
    waits = waits[np.isfinite(waits)]
    share = readable(float(np.mean(waits)), "%") if len(waits) else ""
    note = f"{share} waiting" if share else ""
    yield Tile("Images/s", f"{rate:,.0f}", note)
  sessions = run.sessions()
  if sessions:
    note = f"in {len(sessions)} processes" if len(sessions) > 1 else ""
    seconds = sum(session.seconds for session in sessions)
    yield Tile("Wall time", duration(seconds), note)


def _change(series, unit: str) -> str:
  """Where a quantity came from: "from 83.1 % at step 0"."""
  finite = np.isfinite(series.values)
  if finite.sum() < 2:
    return ""
  first = int(np.argmax(finite))
  value = f"{series.values[first]:.3g}"
  if unit == "%":
    value = readable(series.values[first], unit)
  return f"from {value} at step {int(series.steps[first]):,}"


def _moment(seconds: float) -> str:
  moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
  return moment.strftime("%Y-%m-%d %H:%M UTC")
