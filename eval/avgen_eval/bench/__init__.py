"""Speed beside peers: codecs, attention, training step, sampler, generation.

What is compared does the same work in the same process and takes turns, so that whatever else the machine does falls on
all of it. Figures are medians with quartiles, after a warm-up. What cannot run here is a row with the reason.
"""
