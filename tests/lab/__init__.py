"""The lab: emulators and real services that the tests start by themselves, on loopback."""
