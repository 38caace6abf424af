"""One explanation in each file; `cliptune.explain.running.kinds` finds them."""
