"""The embedded corpus: there, the same each time, and without what tests need."""

import textwrap

from genlm.data import embedded


def test_it_holds_text_reads_the_same_again_and_repeats_no_long_paragraph():
    documents, again = (
        [(d.source, "".join(d.parts())) for d in embedded.read()] for _ in range(2)
    )
    assert documents == again
    assert sum(len(text) for _, text in documents) > 1_000_000
    assert all(text.strip() for _, text in documents)
    kinds = {source.split()[0] for source, _ in documents}
    assert kinds == {"topic", "module"}
    paragraphs = [p for _, text in documents for p in text.split("\n\n")]
    long = [p for p in paragraphs if len(" ".join(p.split())) >= 40]
    assert len(long) > 5000 and len(set(long)) == len(long)


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
    assert embedded.docstrings(textwrap.dedent(source)) == "\n\n".join(
        ["Of the module.", "class A\nOf A.", "A.f(self, x=1)\nOf f.", "g()\nOf g."]
    )
    assert embedded.docstrings("def broken(") == ""
