"""The web service for Apache's mod_wsgi, in place of ``evergreen-groups serve`` (docs/install.md says how).

Settings come from /etc/evergreen-groups/config.toml, or from the file that $EVERGREEN_GROUPS_CONFIG names.
"""

import logging
import os

from evergreen_groups.settings import reading as load
from evergreen_groups.web import create_app

logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
logging.getLogger("evergreen_groups.web").setLevel(logging.INFO)
os.environ.setdefault("STATE_DIRECTORY", "/var/lib/evergreen-groups")
os.environ.setdefault("CACHE_DIRECTORY", "/var/cache/evergreen-groups")
application = create_app(load.load(None, os.environ), os.environ)
