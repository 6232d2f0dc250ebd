from .coverage import describe_coverage as describe_coverage
from .coverage import held_back as held_back
from .coverage import letters_document as letters_document
from .document import LettersBar as LettersBar
from .document import write_debtors as write_debtors
from .document import write_letters as write_letters
