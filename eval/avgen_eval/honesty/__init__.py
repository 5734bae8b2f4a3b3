"""What a model does outside of what it was trained on, and whether it repeats what it was trained on."""
