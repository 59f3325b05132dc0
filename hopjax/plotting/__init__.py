"""Pictures of retrieval: Axes in, Axes out. Draws numbers that others computed.

Every function draws on the given Axes, or on a new figure, and returns the Axes; what moves is an
animation. Memories to tell apart get the colours of Okabe and Ito, which any colour vision
separates; a line of its own style repeats the distinction in black and white.
"""

from hopjax.plotting.animations import (
    animate_film as animate_film,
    animate_overlaps as animate_overlaps,
    save_animation as save_animation,
)
from hopjax.plotting.curves import (
    plot_band as plot_band,
    plot_descent as plot_descent,
    plot_overlaps as plot_overlaps,
    plot_proportions as plot_proportions,
    plot_saliencies as plot_saliencies,
    plot_shown as plot_shown,
    plot_weights as plot_weights,
)
from hopjax.plotting.look import (
    COLOURS as COLOURS,
    COLUMN_WIDTH as COLUMN_WIDTH,
    LINE_STYLES as LINE_STYLES,
    MARKERS as MARKERS,
    OTHERS_COLOUR as OTHERS_COLOUR,
    save_figure as save_figure,
    style as style,
)
from hopjax.plotting.pictures import plot_film as plot_film, plot_picture as plot_picture
from hopjax.plotting.visits import plot_visits as plot_visits
