"""POSTTRAIN: the maths of preference, pure.

Before: rows of answers, and what they are worth. After: train.step. Each file is one
piece of maths: how answers are told apart in a row, a loss, an advantage, a policy's
update.
"""
