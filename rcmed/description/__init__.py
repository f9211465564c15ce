"""Regions in words and in colours."""

from rcmed.description.describer import LONGEST_DESCRIPTION, Describer, describe_findings
from rcmed.description.deterministic import DeterministicDescriber

__all__ = ["LONGEST_DESCRIPTION", "Describer", "DeterministicDescriber", "describe_findings"]
