"""Certificates onto devices that cannot enrol themselves: the library under the certhooks commands."""

__version__ = "0.1.0"
