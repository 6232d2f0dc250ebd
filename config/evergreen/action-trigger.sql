-- Event definitions that notify evergreen-groups when Evergreen has set PATRON_EXCEEDS_FINES, and when a patron's record
-- was updated (for example, moved into another group). There is no event for payments. The definitions are inactive;
-- to activate them, see docs/install.md.
--
--   psql -v secret_file=/etc/evergreen-groups/events-secret -f action-trigger.sql
--
-- `evergreen-groups install --show events` prints it with the service's address from your configuration.
--
-- Run it as a role that owns the Evergreen tables. secret_file is the file with the secret ([events] secret_file); psql
-- reads it, to keep the secret off the command line. To set another address of the service, add
-- -v url=http://…/evergreen-groups/events
--
-- You can run it again: existing definitions keep your changes. After a change of the address or the secret, add
-- -v renew=on, which replaces the template of each definition.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?url}
\else
    \set url http://127.0.0.1:8211/evergreen-groups/events
\endif
\if :{?renew}
\else
    \set renew off
\endif
\if :{?secret_file}
\else
    DO $$ BEGIN RAISE EXCEPTION 'set the file with the secret: -v secret_file=/etc/evergreen-groups/events-secret'; END $$;
\endif
\set secret `cat :'secret_file'`

-- Refuse characters that end the line, or have a meaning in the template or the reactor's configuration.
SELECT :'secret' ~ '^[A-Za-z0-9_-]{16,}$' AS usable_secret, :'url' ~ '^https?://[A-Za-z0-9._:/-]+$' AS usable_url \gset
\if :usable_secret
\else
    DO $$ BEGIN RAISE EXCEPTION 'the secret must have at least 16 letters, digits, _ or -: create one with openssl rand -hex 24'; END $$;
\endif
\if :usable_url
\else
    DO $$ BEGIN RAISE EXCEPTION 'set url to an address like http://127.0.0.1:8211/evergreen-groups/events'; END $$;
\endif

BEGIN;

CREATE TEMPORARY TABLE wanted ON COMMIT DROP AS
SELECT 'Evergreen groups: ' || definition.what AS name, definition.hook,
    format(
        E'method post\nurl %s\n<Headers>\n  X-Evergreen-Groups-Secret %s\n</Headers>\ncontent <<END\n'
        'event=[%% event.id %%]&hook=[%% event.event_def.hook.key %%]&patron=[%% %s %%]\nEND\n',
        :'url', :'secret', definition.patron
    ) AS template
FROM (VALUES
    ('a patron exceeds fines', 'penalty.PATRON_EXCEEDS_FINES', 'target.usr'),
    ('a patron was updated', 'au.updated', 'target.id')
) AS definition (what, hook, patron);

-- Find a definition by what it does, because it may have been renamed.
CREATE TEMPORARY TABLE present ON COMMIT DROP AS
SELECT definition.id, wanted.hook, wanted.template
FROM wanted JOIN action_trigger.event_definition definition USING (hook)
WHERE definition.reactor = 'CallHTTP' AND definition.template LIKE '%X-Evergreen-Groups-Secret%';

-- Evergreen purges a definition's events, with the secret in their output, after its retention interval. With these
-- hooks, it does so only if max_delay is set, which has no other effect.
INSERT INTO action_trigger.event_definition
    (active, owner, name, hook, validator, reactor, delay, max_delay, retention_interval, template)
SELECT FALSE, root.id, wanted.name, wanted.hook, 'NOOP_True', 'CallHTTP', '0', '1 day', '30 days', wanted.template
FROM wanted CROSS JOIN actor.org_unit root
WHERE root.parent_ou IS NULL AND wanted.hook NOT IN (SELECT hook FROM present);

\if :renew
UPDATE action_trigger.event_definition definition SET template = present.template
FROM present WHERE definition.id = present.id AND definition.template <> present.template;
\endif

COMMIT;

SELECT id, name, hook, active FROM action_trigger.event_definition
WHERE reactor = 'CallHTTP' AND template LIKE '%X-Evergreen-Groups-Secret%' ORDER BY id;
