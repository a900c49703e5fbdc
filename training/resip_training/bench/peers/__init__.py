"""Programs that measure other simulators, each run by the Python of an environment of its own (see ``bench.peer``)."""
