"""Loading: a plan, the values beside the model, then all of them at once or none."""
