"""report.html: one page that shows a run, drawn from its folder alone."""

from mmae_jax.report.page import SECTIONS, write_report
from mmae_jax.report.section import Section

__all__ = ["SECTIONS", "Section", "write_report"]
