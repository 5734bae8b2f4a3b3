"""What a model makes of media that are given: one measurement for each task of `avgen.tasks`."""
