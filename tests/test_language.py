"""Words that keep coming back and that a reader has to decode."""

import re

import pytest
from support.pages import PAGES
from support.processes import REPOSITORY

# What is not to be written → what to write.
PHRASES = {
    r'"""(Gives|Says|Tells|Hears|Lets) ': "Returns …, Raises …, Writes …",
    r", for (nobody|somebody|it is|there is|there are|they) ": "because",
    r"\b(nobody|somebody)\b": "no one, or the thing itself",
    r"synchronis": "synchroniz, as Keras spells it",
}


@pytest.mark.parametrize("phrase", PHRASES)
def test_the_package_and_its_pages_are_written_plainly(phrase):
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in [*sorted((REPOSITORY / "tfdist").rglob("*.py")), *PAGES]
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(phrase, line)
    ]
    assert found == [], f"write {PHRASES[phrase]}"
