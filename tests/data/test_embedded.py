"""The embedded corpus: there, the same each time, and without what tests need."""

import textwrap

import pytest

from genlm.data import embedded


@pytest.fixture
def few_modules(monkeypatch):
    """Every 15th module, to be quick."""
    some = embedded.modules()[::15]
    monkeypatch.setattr(embedded, "modules", lambda: some)
    embedded._texts.cache_clear()
    yield
    embedded._texts.cache_clear()


def test_it_holds_text_reads_the_same_again_and_repeats_no_long_paragraph(few_modules):
    documents = [(d.source, "".join(d.parts())) for d in embedded.read()]
    embedded._texts.cache_clear()
    assert documents == [(d.source, "".join(d.parts())) for d in embedded.read()]
    assert sum(len(text) for _, text in documents) > 300_000
    assert all(text.strip() for _, text in documents)
    kinds = {source.split()[0] for source, _ in documents}
    assert kinds == {"topic", "module"}
    paragraphs = [p for _, text in documents for p in text.split("\n\n")]
    long = [p for p in paragraphs if len(" ".join(p.split())) >= 40]
    assert len(long) > 1000 and len(set(long)) == len(long)


def test_modules_stand_in_order_and_without_tests():
    modules = embedded.modules()
    assert len(modules) > 100 and modules == sorted(set(modules))
    assert not any({"test", "tests", "site-packages"} & set(p.parts) for p in modules)


def test_docstrings_are_headed_by_their_names():
    source = '''
        """Of the module."""
        class A(B):
            """Of A."""
            def f(self, x=1):
                """Of f."""
            def silent(self): pass
        def g(): "Of g."
        '''
    assert embedded.docstrings(textwrap.dedent(source)) == [
        "Of the module.",
        "class A\nOf A.",
        "A.f(self, x=1)\nOf f.",
        "g()\nOf g.",
    ]
    assert embedded.docstrings("def broken(") == []
