r"""The web service for Apache's mod_wsgi, instead of ``evergreen-groups serve``.

1. Install libapache2-mod-wsgi-py3. If the virtual environment's Python isn't Debian's, build mod_wsgi for it.
2. Create the directory, and let Apache's user read the settings::

    install -d -o www-data -m 700 /var/lib/evergreen-groups
    chgrp www-data /etc/evergreen-groups/config.toml && chmod 640 /etc/evergreen-groups/config.toml

3. Save this file as /etc/evergreen-groups/wsgi.py. In evergreen-groups.conf, replace the line that begins with
   ``ProxyPass "/evergreen-groups/"`` by these lines, with ``threads`` 6 more than in ``[serve]``::

    WSGIDaemonProcess evergreen-groups user=www-data group=www-data threads=14 python-home=/opt/evergreen-groups
    WSGIScriptAlias /evergreen-groups /etc/evergreen-groups/wsgi.py \
        process-group=evergreen-groups application-group=%{GLOBAL}
    <Location "/evergreen-groups/">
        WSGIPassAuthorization On
    </Location>

Settings come from /etc/evergreen-groups/config.toml, or from the file that $EVERGREEN_GROUPS_CONFIG names.
"""

import logging
import os

from evergreen_groups.settings import reading as load
from evergreen_groups.web import create_app

logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
logging.getLogger("evergreen_groups.web").setLevel(logging.INFO)
os.environ.setdefault("STATE_DIRECTORY", "/var/lib/evergreen-groups")
application = create_app(load.load(None, os.environ), os.environ)
