"""The process of a run, what happens after it was killed, and what is deleted after it ended."""
