"""Policies at run time: the exported artefact (load, verify, run) and the execution of its action chunks."""
