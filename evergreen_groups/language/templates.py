"""Translation in Jinja templates: ``{% trans %}`` and ``gettext``.

As in Python, money, counts and translatable texts among the values are formatted for the language. In HTML, values are
escaped; the texts may contain tags.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from jinja2 import pass_eval_context
from markupsafe import Markup

from evergreen_groups.language.catalogue import translations_for
from evergreen_groups.language.language import current_language
from evergreen_groups.language.messages import describe_total, gettext
from evergreen_groups.language.numbers import number, price
from evergreen_groups.message import Message
from evergreen_groups.values import Total

if TYPE_CHECKING:
    from gettext import NullTranslations

    from jinja2 import Environment
    from jinja2.nodes import EvalContext

_COUNTS = ("count", "num")
"""Names of values to format as counts. Other numbers may identify something, for example a group."""


def install_texts(environment: Environment) -> None:
    """Make templates use the language that is current when they are rendered."""
    environment.policies["ext.i18n.trimmed"] = True
    environment.add_extension("jinja2.ext.i18n")
    # Jinja's new style passes the values to the functions. Replace its own, which have one fixed language.
    environment.install_gettext_callables(str, str, newstyle=True)  # type: ignore[attr-defined]
    environment.globals |= {"gettext": _gettext, "ngettext": _ngettext, "pgettext": _pgettext, "npgettext": _npgettext}


def _translations() -> NullTranslations:
    return translations_for(current_language().tag)


@pass_eval_context
def _gettext(context: EvalContext, message: str, /, **values: object) -> str:
    if isinstance(message, Message):
        return gettext(message, **values)
    return _filled(context, _translations().gettext(message), values)


@pass_eval_context
def _ngettext(context: EvalContext, singular: str, plural: str, count: int, /, **values: object) -> str:
    return _filled(context, _translations().ngettext(singular, plural, count), {"num": count, **values})


@pass_eval_context
def _pgettext(context: EvalContext, about: str, message: str, /, **values: object) -> str:
    return _filled(context, _translations().pgettext(about, message), values)


@pass_eval_context
def _npgettext(context: EvalContext, about: str, singular: str, plural: str, count: int, /, **values: object) -> str:
    return _filled(context, _translations().npgettext(about, singular, plural, count), {"num": count, **values})


def _filled(context: EvalContext, text: str, values: dict[str, object]) -> str:
    template = Markup(text) if context.autoescape else text  # noqa: S704 - from our catalogue; values are escaped
    if not values and "%" not in text:
        return template
    return template % {name: _written(name, value) for name, value in values.items()}


def _written(name: str, value: Any) -> object:
    if isinstance(value, Decimal):
        return price(value)
    if isinstance(value, Message):
        return gettext(value)
    if isinstance(value, Total):
        return describe_total(value)
    return number(value) if name in _COUNTS and isinstance(value, int) else value
