"""The conformance kit: does a method, or an evaluator, keep to what is asked of all? For authors and for the built-in ones."""

from robustbench_spur.conformance.kit import check as check
from robustbench_spur.conformance.kit import check_all as check_all
from robustbench_spur.conformance.report import Check as Check
from robustbench_spur.conformance.report import Report as Report

__all__ = ["Check", "Report", "check", "check_all"]
