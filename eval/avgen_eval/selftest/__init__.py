"""Self-test of the metrics: do they notice known damage, and only that?

Clips of the worlds, whose truth is known, are damaged step by step. For each value that should notice a kind of
damage the table says how well it separates damaged from whole clips (AUC), whether more damage gives a worse value
(Spearman), and for the offset by how many milliseconds it moves per millisecond of shift. That a value stays put under
damage which it is not about is tested too: the rows marked blind.
"""
