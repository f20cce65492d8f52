"""What certmonger loses, found: ``certhooks status``, ``reconcile`` and ``notify``.

``survey`` sees what there is, ``sight`` what is served, ``judge`` says what is wrong with it; ``table``, ``page`` and
``prometheus`` show that, ``reconcile`` repairs it, ``news`` and ``spool`` tell people.
"""
