from .block_explanation import write_block_explanation as write_block_explanation
from .block_explanation_json import write_block_explanation_json as write_block_explanation_json
from .text import person_heading as person_heading
from .wording import HEADINGS as HEADINGS
from .wording import describe_patron_finding as describe_patron_finding
from .wording import describe_reason as describe_reason
from .wording import explanation as explanation
from .writers import render_audit as render_audit
