"""What the benches of the sampler and of generation ask for."""

from avgen.caption import Event

PROMPT = "a red ball"
EVENTS = (Event.at(0.4, 0.5, "the red ball hits the floor", "visual"),)
