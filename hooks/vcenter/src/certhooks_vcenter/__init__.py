"""Certificates on vCenter and ESXi."""
