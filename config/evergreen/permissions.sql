-- A permission group for the service account of evergreen-groups, with the least rights that do: to log in as staff and
-- to see patrons with what they owe, and the amounts at which Evergreen blocks, everywhere.
--
-- Run it as a user who may change the Evergreen database, in its database:
--
--     psql --file permissions.sql --set account=groups_report
--
-- `evergreen-groups install --show permissions` writes it with the account and the rights that the configuration needs.
--
-- "account" is the user name of an account that was made in the staff client; it gets the group as a secondary one, and
-- the whole consortium as a working location, without which permissions count nowhere. Leave it out to make the group
-- alone. By default it may also know what is owed for and which items are overdue, which the report says unless the
-- configuration has details = "sums"; "--set details=0" leaves that out. More rights, each for one thing:
--
--     --set items=1         count the items that members have out (evergreen-groups show), where details=0
--     --set ils_limits=1    know the ILS's own limits ([policy] limit = "ils")
--     --set recalculate=1   have the ILS recalculate penalties (evergreen-groups audit --fix; [events] recalculate)
--     --set changes=1       change who is in which group (move, remove, merge, lead, batch, undo), for patrons whose
--                           profile is "Patrons" or one below it; --set profile=NAME names another
--
-- The accounts of those who work at a desk aren't made here: everything that the desk's page does happens with the
-- session of whoever asks, never with the service account. A stock *Circulator* has what it takes, at the libraries where
-- that person works: STAFF_LOGIN (at the root), VIEW_USER to look at a group, VIEW_CIRCULATIONS for what its members have
-- out, and, to change groups, UPDATE_USER and what the patrons' profiles ask for (group_application.user.patron).
-- Whoever lacks the last two has a supervisor approve a change. VIEW_GROUP_PENALTY_THRESHOLD, which stock groups have at
-- the depth of the branch, shows at which amount Evergreen blocks if it is granted with depth 0. Saving what was agreed
-- with a group of the report takes UPDATE_USER at the home library of the person to contact, or what [follow_up]
-- permission names: a permission of your own has to be in permission.perm_list, and granted. `evergreen-groups doctor`,
-- run with somebody's account, says at which libraries that one could.
--
-- It can be run again, with more of these: it adds what is missing, and takes nothing away.

\set ON_ERROR_STOP on
\if :{?account} \else \set account '' \endif
\if :{?items} \else \set items 0 \endif
\if :{?details} \else \set details 1 \endif
\if :{?ils_limits} \else \set ils_limits 0 \endif
\if :{?recalculate} \else \set recalculate 0 \endif
\if :{?changes} \else \set changes 0 \endif
\if :{?profile} \else \set profile 'Patrons' \endif

BEGIN;

SELECT :'account' <> '' AND NOT EXISTS (SELECT 1 FROM actor.usr WHERE usrname = :'account' AND NOT deleted)
       AS is_unknown \gset
\if :is_unknown
DO $$ BEGIN RAISE EXCEPTION 'there is no such account: make it in the staff client first'; END $$;
\endif

SELECT :'changes'::BOOL AND NOT EXISTS (SELECT 1 FROM permission.grp_tree WHERE name = :'profile')
       AS is_unknown \gset
\if :is_unknown
DO $$ BEGIN RAISE EXCEPTION 'there is no such profile, so nobody could be changed: name one that is there'; END $$;
\endif

-- Below the root group and not below Staff, whose rights it would have as well.
INSERT INTO permission.grp_tree (name, parent, usergroup, description, application_perm)
SELECT 'Patron Groups Service', root.id, FALSE, 'Service account of evergreen-groups',
       'group_application.user.staff.admin.system_admin'
  FROM (SELECT id FROM permission.grp_tree WHERE parent IS NULL ORDER BY id LIMIT 1) AS root
 WHERE NOT EXISTS (SELECT 1 FROM permission.grp_tree WHERE name = 'Patron Groups Service');

-- The profiles whose patrons may be changed, and what each of them asks for.
CREATE TEMPORARY TABLE wanted ON COMMIT DROP AS
WITH RECURSIVE changed (id, application_perm) AS (
    SELECT id, application_perm FROM permission.grp_tree WHERE name = :'profile' AND :'changes'::BOOL
    UNION
    SELECT child.id, child.application_perm FROM permission.grp_tree AS child JOIN changed ON child.parent = changed.id
)
SELECT code FROM (VALUES
    ('STAFF_LOGIN', TRUE),
    ('VIEW_USER', TRUE),
    ('VIEW_CIRCULATIONS', :'items'::BOOL OR :'details'::BOOL),
    ('VIEW_GROUP_PENALTY_THRESHOLD', TRUE),
    ('VIEW_USER_TRANSACTIONS', :'ils_limits'::BOOL OR :'details'::BOOL),
    ('UPDATE_USER', :'recalculate'::BOOL OR :'changes'::BOOL)
) AS rights (code, is_wanted) WHERE is_wanted
UNION
SELECT application_perm FROM changed WHERE application_perm IS NOT NULL;

INSERT INTO permission.grp_perm_map (grp, perm, depth, grantable)
SELECT service.id, perm_list.id, 0, FALSE
  FROM permission.grp_tree AS service, permission.perm_list JOIN wanted USING (code)
 WHERE service.name = 'Patron Groups Service'
    ON CONFLICT (grp, perm) DO NOTHING;

INSERT INTO permission.usr_grp_map (usr, grp)
SELECT usr.id, service.id
  FROM actor.usr, permission.grp_tree AS service
 WHERE usr.usrname = :'account' AND NOT usr.deleted AND service.name = 'Patron Groups Service'
   AND NOT EXISTS (SELECT 1 FROM permission.usr_grp_map AS present
                    WHERE present.usr = usr.id AND present.grp = service.id);

INSERT INTO permission.usr_work_ou_map (usr, work_ou)
SELECT usr.id, root.id
  FROM actor.usr, actor.org_unit AS root
 WHERE usr.usrname = :'account' AND NOT usr.deleted AND root.parent_ou IS NULL
   AND NOT EXISTS (SELECT 1 FROM permission.usr_work_ou_map AS present
                    WHERE present.usr = usr.id AND present.work_ou = root.id);

COMMIT;

SELECT grp_tree.name AS "group", perm_list.code AS "may, everywhere"
  FROM permission.grp_perm_map AS map
  JOIN permission.grp_tree ON grp_tree.id = map.grp
  JOIN permission.perm_list ON perm_list.id = map.perm
 WHERE grp_tree.name = 'Patron Groups Service' ORDER BY perm_list.code;

SELECT usr.usrname AS account, array_agg(org_unit.shortname) AS "works at"
  FROM actor.usr
  JOIN permission.usr_work_ou_map AS map ON map.usr = usr.id
  JOIN actor.org_unit ON org_unit.id = map.work_ou
 WHERE usr.usrname = :'account' GROUP BY usr.usrname;
