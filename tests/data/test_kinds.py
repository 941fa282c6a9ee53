"""The labelled texts that every Python carries."""

import pytest

from genlm.data import kinds, labelled


@pytest.mark.slow
def test_the_embedded_kinds_read_as_labelled_texts():
    data = labelled.read(kinds.EMBEDDED, valid_fraction=0.2)
    assert data.classes == ("code", "docstring", "reference")
    for trained, held_out in data.counts().values():
        assert 240 <= trained <= 320 and 60 <= held_out <= 80
    texts = data.train.texts + data.valid.texts
    assert len(set(texts)) == len(texts) and max(map(len, texts)) <= 300
    assert all(path.suffix == ".py" for path in kinds.files())
