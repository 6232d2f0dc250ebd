"""The columns of the report's CSV, in their order."""

from __future__ import annotations

GROUP_COLUMNS = (
    "group",
    "lead_id",
    "lead_name",
    "lead_barcode",
    "lead_group_lead",
    "library",
    "member_count",
    "owing_count",
    "combined_fines",
    "highest_own_fines",
    "over_limit_count",
    "nobody_over_limit",
    "complete",
    "hidden_member_count",
    "hidden_fines",
)
MEMBER_COLUMNS = (
    "member_id",
    "member_barcode",
    "member_name",
    "member_library",
    "member_own_fines",
    "member_over_limit",
    "member_group_lead",
    "member_limit",
)

CHANGE_COLUMNS = ("change", "combined_fines_before", "difference", "formerly")
"""What became of the group since the run before; empty where there was none to compare with."""

BLOCK_COLUMNS = ("member_blocked_in_evergreen", "member_difference")
"""The last columns, so that those before them stay where they were: the penalties that block the member for fines in
Evergreen, and how that differs from ``member_over_limit``; empty where penalties weren't read."""


GROUP_DETAIL_COLUMNS = (
    "kinds",
    "kinds_not_known",
    "kinds_complete",
    "owing_since",
    "last_payment",
    "items_overdue",
    "items_lost",
    "items_complete",
    "returnable",
)
MEMBER_DETAIL_COLUMNS = (
    "member_kinds",
    "member_owing_since",
    "member_last_payment",
    "member_items_overdue",
    "member_items_lost",
    "member_juvenile",
    "member_expired",
    "member_barred",
    "member_profile",
)
"""What is owed for, since when, and what is out, behind all others; empty where it wasn't read, or isn't known. Kinds
stand in one cell: ``lost materials 23.00; overdue materials 0.50``."""


TOTAL_COLUMNS = ("owing_count_at_least", "highest_own_fines_at_least", "over_limit_count_at_least")
DETAIL_TOTAL_COLUMNS = ("items_overdue_at_least", "items_lost_at_least")
"""Lower bounds of the columns of that name, which are empty where hidden members may raise them."""


ONCE_COLUMNS = ("first_of_group",)
"""True in one row of each group that is listed: the rows whose group's columns add up to the report's sums."""
