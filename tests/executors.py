"""Executors that work in this process, for what real ones do seldom."""

import random
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from hopjax.engine.task import Answer


class Inline(Executor):
    """Solves a task while it is submitted; what is answered may be changed."""

    def __init__(self, change: Callable[[Answer], Answer] = lambda answer: answer):
        self.change = change
        self.given: list[tuple[Any, ...]] = []  # the arguments of all tasks

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        assert not kwargs
        future: Future[Any] = Future()
        self.given.append(args)
        future.set_result(self.change(fn(*args)))
        return future


class Shuffled(ThreadPoolExecutor):
    """Tasks begin after a while of their own, and so end in another order."""

    def __init__(self):
        super().__init__(4)
        self._luck = random.Random(1)
        self.begun: list[int] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        pause = 0.1 * self._luck.random()

        def after_a_while(*args: Any) -> Any:
            time.sleep(pause)
            self.begun.append(int(args[0].rpartition("-")[2]))
            return fn(*args, **kwargs)

        return super().submit(after_a_while, *args)
