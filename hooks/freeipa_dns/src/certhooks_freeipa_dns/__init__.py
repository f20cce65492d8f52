"""dns-01 challenges answered in FreeIPA's DNS: the core, two ways to write, and a front end for each ACME client."""
