"""The database's tables: one for each class, and what the IDL has no class for."""

from __future__ import annotations

from evergreen_groups.sandbox.database.classes import StoredClass, idl_classes

_TYPES = {"integer": "INTEGER", "money": "INTEGER", "bool": "INTEGER"}

_SUMMARY = """
CREATE VIEW {name} AS
  SELECT sum(balance_owed) AS balance_owed, sum(total_owed) AS total_owed, sum(total_paid) AS total_paid, usr,
         max(last_billing_ts) AS last_billing_ts, max(last_payment_ts) AS last_payment_ts, NULL AS _position
    FROM mbts {where} GROUP BY usr
"""

VIEWS = {
    "mous": _SUMMARY.format(name="mous", where="WHERE xact_finish IS NULL"),
    "mus": _SUMMARY.format(name="mus", where=""),
    "mbt": """
CREATE VIEW mbt AS
  SELECT id, usr, xact_finish, xact_start, NULL AS unrecovered, _position FROM mg
  UNION ALL SELECT id, usr, xact_finish, xact_start, unrecovered, _position FROM circ
""",
    "mobts": """
CREATE VIEW mobts AS
  SELECT s.*, coalesce(mg.billing_location, circ.circ_lib) AS billing_location
    FROM mbts s LEFT JOIN mg ON mg.id = s.id LEFT JOIN circ ON circ.id = s.id
   WHERE s.xact_finish IS NULL
""",
}

_OTHER_TABLES = """
CREATE TABLE grants (usr INTEGER, permission TEXT, depth INTEGER, PRIMARY KEY (usr, permission)) WITHOUT ROWID;
CREATE TABLE profile_grants (profile INTEGER, permission TEXT, depth INTEGER, PRIMARY KEY (profile, permission))
  WITHOUT ROWID;
CREATE TABLE permissions (permission TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE work_orgs (usr INTEGER, org_unit INTEGER, PRIMARY KEY (usr, org_unit)) WITHOUT ROWID;
CREATE TABLE passwords (usr INTEGER PRIMARY KEY, password TEXT);
CREATE TABLE default_passwords (above INTEGER, password TEXT);
CREATE TABLE sequences (name TEXT PRIMARY KEY, next INTEGER) WITHOUT ROWID;
CREATE TABLE accounts (position INTEGER PRIMARY KEY, name TEXT, login TEXT, password TEXT, type TEXT, note TEXT);
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""

_INDEXES = """
CREATE INDEX IF NOT EXISTS au_usrgroup ON au (usrgroup, deleted, home_ou, master_account, juvenile);
CREATE INDEX IF NOT EXISTS au_home_ou ON au (home_ou);
CREATE INDEX IF NOT EXISTS au_usrname ON au (usrname);
CREATE INDEX IF NOT EXISTS au_family_name ON au (family_name COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS au_pref_family_name ON au (pref_family_name COLLATE NOCASE)
  WHERE pref_family_name IS NOT NULL;
CREATE INDEX IF NOT EXISTS au_card ON au (card);
CREATE INDEX IF NOT EXISTS au_mailing_address ON au (mailing_address) WHERE mailing_address IS NOT NULL;
CREATE INDEX IF NOT EXISTS au_billing_address ON au (billing_address) WHERE billing_address IS NOT NULL;
CREATE INDEX IF NOT EXISTS ac_usr ON ac (usr);
CREATE INDEX IF NOT EXISTS ac_barcode ON ac (barcode);
CREATE INDEX IF NOT EXISTS aua_usr ON aua (usr);
CREATE INDEX IF NOT EXISTS aum_usr ON aum (usr);
CREATE INDEX IF NOT EXISTS aus_usr ON aus (usr);
CREATE INDEX IF NOT EXISTS auact_usr ON auact (usr);
CREATE INDEX IF NOT EXISTS ausp_usr ON ausp (usr);
CREATE INDEX IF NOT EXISTS ausp_standing_penalty ON ausp (standing_penalty, usr);
CREATE INDEX IF NOT EXISTS mg_usr ON mg (usr);
CREATE INDEX IF NOT EXISTS circ_usr ON circ (usr);
CREATE INDEX IF NOT EXISTS maa_billing ON maa (billing);
CREATE INDEX IF NOT EXISTS mb_xact ON mb (xact);
CREATE INDEX IF NOT EXISTS mbts_owing ON mbts (usr, xact_finish, balance_owed)
  WHERE xact_finish IS NULL AND balance_owed <> 0;
CREATE INDEX IF NOT EXISTS mbts_usr ON mbts (usr, xact_finish, balance_owed);
"""


def _table(known: StoredClass) -> str:
    columns = []
    for item in known.columns:
        key = " PRIMARY KEY" if item.name == known.primary else ""
        columns.append(f'"{item.name}" {_TYPES.get(item.kind, "TEXT")}{key}')
    return f"CREATE TABLE {known.id} ({', '.join(columns)}, _position INTEGER)"


def schema_statements(*, indexes: bool) -> list[str]:
    """The SQL that makes the empty tables, or what makes the indexes that aren't there yet once they are filled."""
    if indexes:
        return [text for text in _INDEXES.split(";") if text.strip()]
    tables = [_table(known) for known in idl_classes().values() if known.id not in VIEWS]
    others = [text for text in _OTHER_TABLES.split(";") if text.strip()]
    return [*tables, *others, *VIEWS.values()]
