"""Programs that measure other projects, each run by the Python of an environment of its own (see ``bench.peer``)."""
