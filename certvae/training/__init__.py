"""One loop, its objective and losses, and what it is fed with."""
