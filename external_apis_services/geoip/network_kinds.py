"""Guesses what sort of network an organisation runs from the words in its name.

Networks are registered to organisations, not to uses, so a name is all that free data offers. A name that says
hosting, cloud or data centre, or names a large host, means `hosting`; one that says mobile means `mobile`; everything
else is unknown. Nothing is ever guessed to be residential or business: unknown must not read as safe.
A guess can be wrong both ways: some mobile operators also sell fixed lines, and many hosts do not say so in their name.
"""

import re

from common.contracts.geoip import NetworkKind

# What would be taken for a host and is none: towns, a fibre network, a hotel chain.
_NO_HOSTS = re.compile(r"\b(?:st|saint)[ -]cloud\b|\bfiberhost\b|\bhost hotels\b|\bghost")

_HOSTING_WORDS = (
    r"cloud",
    r"hosting",
    r"hosts?\b",
    r"\bhost(?:inger|gator|hatch|papa|sailor|winds)",
    r"vps\b",
    r"\bservers?\b",
    r"\bdata ?cent(?:er|re)s?\b",
    r"\bco-?location\b",
)
_LARGE_HOSTS = (
    r"\bakamai\b",
    r"\balibaba\b",
    r"\bamazon(?:\.com| data services| technologies)",  # not the internet providers of the river
    r"\bconstant company\b",
    r"\bcontabo\b",
    r"\bdatacamp\b",
    r"\bdigital ?ocean\b",
    r"\bfastly\b",
    r"\bfrantech\b",
    r"\bgodaddy\b",
    r"\bgoogle,? llc\b",
    r"\bhetzner\b",
    r"\bionos\b",
    r"\bleaseweb\b",
    r"\blinode\b",
    r"\bm247\b",
    r"\bmicrosoft corporation\b",
    r"\boracle corporation\b",
    r"\bovh\b",
    r"\brackspace\b",
    r"\bscaleway\b",
    r"\btencent\b",
    r"\bvultr\b",
)
# Not "wireless": hundreds of small rural networks with fixed antennas are called so.
_MOBILE_WORDS = (
    r"\bmobile\b",
    r"\bmobil\b",
    r"\bmobility\b",
    r"\bcellular\b",
    r"\bcelular(?:es)?\b",
    r"\bcellco\b",
    r"\bm[oó]vil(?:es)?\b",
    r"\bgsm\b",
    r"\btelemovil\b",
)
_HOSTING = re.compile("|".join(_HOSTING_WORDS + _LARGE_HOSTS))
_MOBILE = re.compile("|".join(_MOBILE_WORDS))


def kind_of(organisation: str) -> NetworkKind | None:
    """Return what the name says, or None; hosting wins where a name says both."""
    name = _NO_HOSTS.sub(" ", organisation.casefold())
    if _HOSTING.search(name):
        return NetworkKind.HOSTING
    if _MOBILE.search(name):
        return NetworkKind.MOBILE
    return None
