from .document import LettersBar as LettersBar
from .document import describe_left_out as describe_left_out
from .document import letters_document as letters_document
from .document import write_debtors as write_debtors
from .document import write_letters as write_letters
