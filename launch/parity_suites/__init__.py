"""The suites of launch/parity.py; each has `rows`, which yields `rows.Row`s.

  models      networks.py runs both sides, foreign.py and timm_models.py build
              the other one
  optimizers  100 steps; schedules.py, norms.py
  losses      loss_cases.py the objectives, information.py the measures
  images      pictures.py, colour.py; evaluation.py of equal features
  training    runs.py a run on both sides, feed.py what ours is fed with,
              probe.py accuracies, training_report.py table and figure

rows.py is what a comparison leaves, page.py the report. What no other program
has is in tests/torch_reference.
"""
