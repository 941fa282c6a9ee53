"""Reading ahead of the device, from readers that hang, fail and end."""

import itertools
import threading

import pytest

from genlm.data.ahead import Ahead
from genlm.errors import UserError


def test_batches_come_in_order_and_end():
    read = Ahead(lambda step: iter(range(step, 9)), 3, 0.0, lambda step: None)
    assert list(read) == [3, 4, 5, 6, 7, 8]


def test_a_reader_that_hangs_is_read_again_where_it_hung():
    hung, opened, stalls = threading.Event(), [], []

    def since(step: int):
        opened.append(step)
        for number in itertools.count(step):
            if number == 6 and len(opened) < 3:
                hung.wait()  # for ever
            yield number

    read = Ahead(since, 2, 0.2, stalls.append)
    assert list(itertools.islice(read, 8)) == list(range(2, 10))
    assert opened == [2, 6, 6] and stalls == [7, 7]


def test_what_hangs_again_and_again_is_an_error():
    hung, opened, stalls = threading.Event(), [], []

    def since(step: int):
        opened.append(step)
        return iter(hung.wait, True)

    read = Ahead(since, 4, 0.05, stalls.append)
    with pytest.raises(UserError, match="no batch for step 5 came from 4 readers"):
        next(read)
    assert opened == [4] * 4 and stalls == [5] * 4


def test_an_error_of_the_reader_is_the_loops():
    def since(step: int):
        yield step
        raise UserError("the shard is damaged")

    read = Ahead(since, 0, 0.0, lambda step: None)
    assert next(read) == 0
    with pytest.raises(UserError, match="the shard is damaged"):
        next(read)


def test_the_thread_ends_with_the_block():
    with Ahead(itertools.count, 0, 0.0, lambda step: None) as read:
        assert next(read) == 0
        alive = threading.active_count()
    assert threading.active_count() == alive - 1
