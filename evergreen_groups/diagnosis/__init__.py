"""Whether everything is right: the configuration, the gateway, the account and this machine, looked at one by one::

    with Subject(None, os.environ) as subject:
        for finding in run(subject).failed:
            print(finding.title, finding.found, finding.advice)

Nothing is changed: not in the ILS, and no files but one that is removed at once.
"""

from evergreen_groups.diagnosis.examination import run
from evergreen_groups.diagnosis.finding import Diagnosis, Finding, Verdict
from evergreen_groups.diagnosis.subject import Subject

__all__ = ["Diagnosis", "Finding", "Subject", "Verdict", "run"]
