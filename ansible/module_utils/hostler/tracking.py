"""Query arguments that say where a visitor came from and never change a page: left out of cache keys.

The same as the maps in `templates/names.j2` do, and agent/src/steps/tracking.rs.
"""

PREFIX = "utm_"
NAMES = {
    "_ga",
    "_gl",
    "_hsenc",
    "_hsmi",
    "dclid",
    "epik",
    "fbclid",
    "gad_source",
    "gbraid",
    "gclid",
    "gclsrc",
    "igshid",
    "li_fat_id",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "msclkid",
    "srsltid",
    "ttclid",
    "twclid",
    "wbraid",
    "yclid",
}
# Runs of such arguments, besides the last ones of a query, that are left out.
INNER_RUNS_MAX = 3


def is_tracking(argument):
    """Whether an argument of a query is one of these."""
    name = argument.partition("=")[0]
    return name.startswith(PREFIX) or name in NAMES


def canonical(uri):
    """A request URI as it stands in cache keys."""
    path, question, query = uri.partition("?")
    if not question:
        return uri
    arguments = query.split("&")
    while arguments and is_tracking(arguments[-1]):
        arguments.pop()
    if not arguments:
        return path
    for _ in range(INNER_RUNS_MAX):
        first = next((place for place, one in enumerate(arguments) if is_tracking(one)), None)
        if first is None:
            break
        while is_tracking(arguments[first]):
            del arguments[first]
    return f"{path}?{'&'.join(arguments)}"
