"""Reading: what kind of file it is, what it holds, and its tensors, without running its code."""
