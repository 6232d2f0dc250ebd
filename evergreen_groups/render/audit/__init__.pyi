from .text import person_heading as person_heading
from .wording import HEADINGS as HEADINGS
from .wording import explanation as explanation
from .wording import person_words as person_words
from .wording import reason_words as reason_words
from .writers import render_audit as render_audit
