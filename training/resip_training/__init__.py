"""resip_training: simulation, experts, data, models and algorithms; it imports resip's core, never the reverse."""
