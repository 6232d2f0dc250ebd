"""What accounts may do, and other rows of the sandbox: a circulator as in Evergreen's seed data, rights taken away."""

from evergreen_groups.sandbox import Sandbox

ACCOUNT, USER = "harbor_desk", 4
"""The sandbox's desk account at Harbor Street, and its id."""
_OF_THE_SYSTEM = ("VIEW_USER", "VIEW_CIRCULATIONS", "VIEW_HOLD", "VIEW_USER_FINES_SUMMARY", "VIEW_USER_TRANSACTIONS")
_OF_THE_BRANCH = ("VIEW_GROUP_PENALTY_THRESHOLD",)


def make_stock_circulator(sandbox: Sandbox) -> str:
    """Give the desk at Harbor Street the permissions of the stock group *Circulators*, and return the account's name.

    It sees patrons and circulations of its system, and thresholds of its branch (``950.data.seed-values.sql``).
    """
    with sandbox._store.transaction() as connection:
        for depth, permissions in ((1, _OF_THE_SYSTEM), (2, _OF_THE_BRANCH)):
            for permission in permissions:
                connection.execute("INSERT OR REPLACE INTO grants VALUES (?, ?, ?)", [USER, permission, depth])
    return ACCOUNT


def change_rows(sandbox: Sandbox, statement: str, *values: object) -> None:
    """Run one SQL statement on the sandbox's tables."""
    with sandbox._store.transaction() as connection:
        connection.execute(statement, values)


def add_members(sandbox: Sandbox, group: int, count: int) -> None:
    """Add so many juveniles named *Nguyễn* to a group, without cards, with the ids from 6001 on."""
    changed = {"id": "6000 + n", "usrname": "'many' || n", "family_name": "'Nguyễn'", "usrgroup": str(group)}
    changed |= {"first_given_name": "'Member ' || n", "card": "NULL", "master_account": "0"}
    columns = [row[1] for row in sandbox._store.read().execute("PRAGMA table_info(au)")]
    change_rows(
        sandbox,
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"
        f" INSERT INTO au ({', '.join(columns)}) SELECT {', '.join(changed.get(one, one) for one in columns)}"
        " FROM au, numbers WHERE id = 1018",
        count,
    )


def take_away(sandbox: Sandbox, permission: str, *, user: int | None = None) -> None:
    """Revoke a permission from one account, or from all."""
    change_rows(sandbox, "DELETE FROM grants WHERE permission = ? AND usr = ifnull(?, usr)", permission, user)
