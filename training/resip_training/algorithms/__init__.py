"""Learning algorithms: each turns data into updates of a model; running, saving and showing is `train`'s."""
