"""The colours of charts, lists and reports, each for a light and a dark background. A fork changes them here.

`GAIN[dark]` is the one to draw with. The theme's own colours stand in .streamlit/config.toml, which can take none from here.
"""

# Blue, green and vermilion of Okabe & Ito, which colour-blind people can distinguish; grey for the rest.
GAIN = ("#0072B2", "#56B4E9")
KEPT = ("#009E73", "#1FC79A")
LOSS = ("#D55E00", "#FF8A3D")
UNUSED = ("#B8BCC4", "#5B616C")
SAME = ("#8A8F98", "#8A8F98")
BEFORE, AFTER = SAME, GAIN
INK = ("#30343B", "#E8EAED")
# The worst of a heat map, and what is written on it and on the best.
PALE = ("#F0F2F5", "#23272F")
ON_PALE = ("#111111", "#FFFFFF")
ON_FULL = ("#FFFFFF", "#111111")

# Variables of the style sheets. For text the contrast is AA, so the light ones are darker than those of areas.
_VARIABLES = {
    "accent": ("#00629B", "#56B4E9"),
    "kept": ("#00734F", "#1FC79A"),
    "lost": ("#AD4A00", "#FF8A3D"),
    "quiet": ("#5B6470", "#A9B0BA"),
    "line": ("#DDE1E6", "#343B46"),
    "tint": ("#F4F7FA", "#1B212B"),
    "marked": ("#FFF0B8", "#5A4A10"),
    "ink": INK,
    "area-gain": GAIN,
    "area-kept": KEPT,
    "area-loss": LOSS,
    "area-unused": UNUSED,
}
CSS = ":root { " + " ".join(f"--{name}: light-dark({light}, {dark});" for name, (light, dark) in _VARIABLES.items()) + " }"
