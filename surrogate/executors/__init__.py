"""Where the likelihood runs: here, in threads, in processes, or wherever an executor of somebody else takes it."""

from surrogate.executors.evaluate import evaluate_batch
from surrogate.executors.local import ProcessExecutor, SerialExecutor, make_executor

__all__ = ["ProcessExecutor", "SerialExecutor", "evaluate_batch", "make_executor"]
