"""What networks are trained on: sequences, the answers that are asked for, and what answers cost.

NumPy and SciPy alone. A new task is a row and its draw in `rows`.
"""

from seqlab.tasks.rows import CLASSES, TASKS, find_task, of_classes
from seqlab.tasks.task import JUDGED_BY, SOLVED, TESTED_BY, Batch, Task

__all__ = [
    "CLASSES",
    "JUDGED_BY",
    "SOLVED",
    "TASKS",
    "TESTED_BY",
    "Batch",
    "Task",
    "find_task",
    "of_classes",
]
