"""How pages for a person look, and what they may load: nothing."""

from __future__ import annotations

from collections.abc import Mapping

STYLE = """
:root{color-scheme:light dark;--back:#fbfbfa;--panel:#fff;--text:#1c1e21;--soft:#5b6069;
--line:#d9dbdf;--bar:#3569b8;--track:#e8eaee;--bad:#a3201b;--warn:#7a4b00;--good:#1d6b34;
--link:#1a56a8}
@media(prefers-color-scheme:dark){:root{--back:#15171a;--panel:#1d2024;--text:#e7e8ea;
--soft:#a3a9b3;--line:#34383f;--bar:#79a7ea;--track:#2a2e34;--bad:#ff8d85;--warn:#f0bd63;
--good:#7fd097;--link:#8db8f5}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:64rem;padding:1rem;background:var(--back);color:var(--text);
font:16px/1.45 system-ui,sans-serif}
h1{font-size:1.35rem;margin:0}
h2{font-size:1.05rem;margin:1.6rem 0 .6rem}
a{color:var(--link)}
p{margin:.3rem 0}
.soft,figcaption{color:var(--soft);font-size:.875rem}
figcaption{padding-bottom:.4rem}
.panel{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.8rem}
dl,.lines{display:grid;gap:.7rem;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));margin:0}
dt{color:var(--soft);font-size:.875rem}
dd{margin:0}
dd strong{display:block;font-size:1.4rem;font-variant-numeric:tabular-nums}
ul{margin:0;padding:0;list-style:none}
.found li{padding:.5rem 0;border-top:1px solid var(--line)}
.found li:first-child{border-top:0}
.bad strong{color:var(--bad)}
.warn strong{color:var(--warn)}
.good{color:var(--good)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left}
th,td{padding:.45rem .5rem;text-align:right;vertical-align:top;border-top:1px solid var(--line)}
thead th{border-top:0;font-size:.875rem;color:var(--soft);white-space:nowrap}
th:first-child{text-align:left;padding-left:0;width:60%;min-width:8rem}
@media(min-width:40rem){td{white-space:nowrap}}
@media(max-width:40rem){th:first-child{width:52%}th,td{padding:.45rem .3rem}td{font-size:.875rem}}
tbody th{font-weight:600;overflow-wrap:anywhere}
tbody th span{font-weight:400}
.bar{display:block;width:100%;height:.4rem;margin-top:.3rem;background:var(--track)}
.bar rect{fill:var(--bar)}
.lines{grid-template-columns:repeat(auto-fit,minmax(13rem,1fr))}
figure{margin:0;display:flex;flex-direction:column}
figure svg{display:block;width:100%;height:4.5rem;margin:auto 0 .3rem;
border-bottom:1px solid var(--line)}
polyline{fill:none;stroke:var(--bar);stroke-width:2;vector-effect:non-scaling-stroke}
circle{fill:var(--bar)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font:.9rem/1.5 ui-monospace,monospace;margin:0}
nav ul{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem}
footer{margin-top:1.6rem}
@media(forced-colors:active){.bar rect,circle{fill:CanvasText}polyline{stroke:CanvasText}}
"""

# SHA-256 of STYLE in base64, which a test compares. hashlib would load OpenSSL to compute it.
_DIGEST = "L4VPhtpolOKLoASKbjyXf8BtWvNniFDG9lTocq7k7ho="

# No script at all, and no style but the one above. The icon is empty, so that none is asked for.
HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">{more}
<style>{style}</style></head><body>{body}</body></html>
"""


def document(title: str, body: str, more: str = "") -> bytes:
    """A page. All three are HTML: what is in them was escaped."""
    return _PAGE.format(title=title, body=body, more=more, style=STYLE).encode()
