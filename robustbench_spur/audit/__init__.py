"""The audit: everything that can be measured of a model, and what it says in words."""

from robustbench_spur.audit.report import Audit as Audit
from robustbench_spur.audit.report import Measured as Measured
from robustbench_spur.audit.report import audit as audit

__all__ = ["Audit", "Measured", "audit"]
