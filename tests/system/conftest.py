"""The daemons that the system tests run against."""

from tests.lab.certmonger import certmonger_lab, system_bus_certmonger

__all__ = ["certmonger_lab", "system_bus_certmonger"]
