"""`resip report` of training runs: one page of what they learned, how often they succeed, and what they differ in."""
