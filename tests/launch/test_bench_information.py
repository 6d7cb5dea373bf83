"""The suite `information` of the bench: small sizes, real contestants."""

import importlib
import json
import math

import numpy as np
import pytest

TINY = [
  "--suite=information",
  "--size=digits",
  "--batch=8",
  "--batches=16",
  "--dims=24",
  "--rounds=2",
]


def test_dense_forms_and_ours_are_the_same_numbers(bench):
  forms = importlib.import_module("bench_forms")
  torch = pytest.importorskip("torch")
  for name, quantity in forms.quantities(with_torch=True).items():
    ours = quantity.forms.get("ours")
    if name == forms.ENTROPY_2 or ours is None:
      continue
    arrays = quantity.inputs(12, 20)
    for contestant, form in quantity.forms.items():
      if form.in_torch:
        value = form.function(*map(torch.from_numpy, arrays))
      else:
        value = form.function(*arrays)
      expected = float(ours.function(*arrays))
      assert float(value) == pytest.approx(expected, rel=1e-5), contestant


def test_measures_and_writes(bench, tmp_path, monkeypatch, capsys):
  forms = importlib.import_module("bench_forms")
  keep = (
    forms.REGULARISER,
    forms.MATRIX_SSL,
    forms.ENTROPY_2,
    "log det(I + Q)",
  )
  every = forms.quantities(with_torch=False)
  for slow in ("newton_schulz", "Lanczos"):
    del every["log det(I + Q)"].forms[slow]
  monkeypatch.setattr(
    forms, "quantities", lambda with_torch: {name: every[name] for name in keep}
  )
  # test_bench.py takes the real step; to compile it costs most of the time.
  step = lambda config: (lambda steps: None, {"memory_bytes": lambda: 1})
  monkeypatch.setattr(importlib.import_module("bench_step"), "ours", step)
  out = tmp_path / "folder" / "information.json"
  bench.main([*TINY, "--no_torch", f"--out={out}"])
  printed = capsys.readouterr().out
  assert "Which method is the fastest" in printed and "of the step" in printed
  result = json.loads(out.read_text())
  entries = result["entries"]
  assert {entry["quantity"] for entry in entries} == set(keep)
  for entry in entries:
    assert not entry["extrapolated"] and len(entry["times"]) == 2
    assert entry["seconds"] > 0 and entry["temporary_bytes"] >= 0
    assert ("share_of_step" in entry) == (entry["batch"] > 0)
  assert all(
    row["value"] < 1e-12 and row["gradient"] < 1e-12
    for row in result["agreement"]
    if row["dtype"] == "float64"
  )
  lines = out.with_suffix(".csv").read_text().splitlines()
  assert len(lines) == 1 + len(entries)
  assert "| M-MAE coding rate | 16 | 24 |" in out.with_suffix(".md").read_text()
  picture = out.with_suffix(".png").read_bytes()
  assert picture.startswith(b"\x89PNG") and len(picture) < 200 * 1024


class Clock:
  """Calls that take as long as they are said to."""

  def __init__(self, rate):
    self.now, self.rate = 0.0, rate

  def perf_counter(self):
    return self.now

  def prepare(self, quantity, form, arrays, backward):
    work = form.work(*arrays[0].shape) * (3 if backward else 1)

    def run():
      self.now += work / self.rate
      return 1.0

    return run, 0


@pytest.mark.parametrize(
  "limits, late",
  [
    ({"longest": 20.0, "deadline": math.inf}, False),
    ({"longest": math.inf, "deadline": 60.0}, True),
  ],
)
def test_extrapolates_what_takes_too_long(bench, monkeypatch, limits, late):
  suite = importlib.import_module("bench_information")
  forms = importlib.import_module("bench_forms")
  clock = Clock(rate=3e10)
  monkeypatch.setattr(suite, "time", clock)
  monkeypatch.setattr(suite, "_prepare", clock.prepare)
  work = lambda batch, dim: 2 * batch * dim**2 + 3 * dim**3
  quantity = forms.Quantity(
    {"ours": forms.Form(None, work)},
    lambda batch, dim: [np.broadcast_to(np.float32(1), (batch, dim))],
  )
  measured = suite._Bench(extra=None, rounds=3, **limits)
  for dim in (128, 512, 2048, 4096):
    measured.measure("a quantity", quantity, 8192, dim)
  entries = {
    (entry["dim"], entry["gradient"]): entry for entry in measured.entries
  }
  assert not entries[128, False]["extrapolated"]
  assert entries[4096, True]["extrapolated"]
  assert (clock.now < 60) or not late
  for entry in entries.values():
    assert entry["seconds"] == pytest.approx(entry["work"] / clock.rate)


@pytest.mark.parametrize(
  "flag", ["--batches=0", "--dims=a", "--minutes=0", "--blas_threads=-1"]
)
def test_refuses(bench, flag):
  with pytest.raises(SystemExit, match=f"error: {flag}"):
    bench.main([*TINY, flag])
