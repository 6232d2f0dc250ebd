-- A permission group for the service account of evergreen-groups, with as few permissions as possible: to log in as
-- staff, and to see patrons, their fines, and Evergreen's thresholds everywhere.
--
-- Run it in the Evergreen database, as a user who may change it:
--
--     psql --file permissions.sql --set account=groups_report
--
-- `evergreen-groups install --show permissions` prints it. If there is a configuration, the account and the options
-- that its settings need are already filled in.
--
-- "account" is the user name of an account from the staff client. It gets the group as a secondary group, and the whole
-- consortium as a working location, which permissions require. Without "account", only the group is created. By default
-- the group can also see bills and overdue items, which the report needs unless details = "sums"; leave that out with
-- "--set details=0". Further permissions:
--
--     --set items=1         needed only with details=0: count the items that members have out (evergreen-groups show)
--     --set ils_limits=1    needed only with details=0: see bills for [policy] limit = "ils"
--     --set recalculate=1   have Evergreen recalculate penalties (evergreen-groups audit --fix; [events] recalculate)
--     --set changes=1       change groups (move, remove, merge, lead, batch, undo), for patrons with the profile
--                           "Patrons" or one below; choose another with --set profile=NAME
--
-- Staff accounts aren't created here: the group page always uses the session of the staff member, never the service
-- account. A stock "Circulator" has the necessary permissions at their libraries: STAFF_LOGIN (at the root), VIEW_USER to
-- see a group, VIEW_CIRCULATIONS to see items out, and, to change groups, UPDATE_USER and the permissions of the patrons'
-- profiles (group_application.user.patron). Staff without the last two need a supervisor's approval.
-- VIEW_GROUP_PENALTY_THRESHOLD shows Evergreen's thresholds if it is granted with depth 0; stock groups have it at the
-- depth of the branch. Saving follow-ups needs UPDATE_USER at the home library of the person to contact, or the
-- permission in [follow_up]; if you add your own, it must be in permission.perm_list and granted.
--
-- You can run it again with more options: it adds what is missing, and removes nothing.

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
DO $$ BEGIN RAISE EXCEPTION 'account not found: create it in the staff client first'; END $$;
\endif

SELECT :'changes'::BOOL AND NOT EXISTS (SELECT 1 FROM permission.grp_tree WHERE name = :'profile')
       AS is_unknown \gset
\if :is_unknown
DO $$ BEGIN RAISE EXCEPTION 'profile not found: name an existing one with --set profile=NAME'; END $$;
\endif

-- Below the root group, not below Staff, whose permissions it would inherit.
INSERT INTO permission.grp_tree (name, parent, usergroup, description, application_perm)
SELECT 'Patron Groups Service', root.id, FALSE, 'Service account of evergreen-groups',
       'group_application.user.staff.admin.system_admin'
  FROM (SELECT id FROM permission.grp_tree WHERE parent IS NULL ORDER BY id LIMIT 1) AS root
 WHERE NOT EXISTS (SELECT 1 FROM permission.grp_tree WHERE name = 'Patron Groups Service');

-- The profiles whose patrons can be changed, with the permission for each.
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
