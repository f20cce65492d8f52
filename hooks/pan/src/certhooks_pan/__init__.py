"""Certificates on Palo Alto firewalls and Panorama."""
