"""Where the likelihood runs: here, in threads, in processes, or wherever an executor of somebody else takes it."""

from surrogate.executors.choice import make_executor
from surrogate.executors.evaluate import evaluate_batch
from surrogate.executors.processes import ProcessExecutor
from surrogate.executors.serial import SerialExecutor

__all__ = ["ProcessExecutor", "SerialExecutor", "evaluate_batch", "make_executor"]
