"""The figure of who approaches the retrained model: titles that say what the data say, shapes, the proven rate."""

import numpy as np
from synthetic import FRACTIONS, both, deletion, three

from results.approach import NONCONVEX, OTHER, approach_figure, approaches, outcome, shapes


def panels(figure):
    return [axis.get_title(loc="left").replace("\n", " ") for axis in figure.axes if axis.get_visible()]


def test_three_panels_say_in_words_who_approaches():
    nonconvex, wells, strong = panels(approach_figure(three()))
    assert nonconvex.startswith("Nonconvex: rewinding approaches retraining, descending does not")
    assert wells.startswith("Double well: neither approaches retraining before the rewind reaches the choice of basin")
    assert strong.startswith("Strongly convex: both approach retraining, geometrically in K")
    assert approach_figure([deletion(lambda f: 1 - f)]) is None


def test_titles_say_what_the_data_say():
    reverse = both(lambda f: 1 + f, lambda f: 1 - f, "odd", "rewinding_approaches", "SMOOTH|CONVEX")
    assert panels(approach_figure([reverse]))[0].startswith(
        "Convex: descending approaches retraining, rewinding does not"
    )
    neither = both(lambda f: 1.0, lambda f: 1.0, "even", "rewinding_approaches", "SMOOTH|CONVEX")
    (title,) = panels(approach_figure([reverse, neither]))
    assert title == "Convex: not the same on every problem"
    assert outcome(approaches([neither]), ["even"]) == "neither approaches retraining"


def test_the_shape_is_what_is_proven_or_else_what_theorems_tell():
    unknown = both(lambda f: 1 - f, lambda f: 1.0, "tanh", "rewinding_approaches")
    convex = deletion(lambda f: 1 - f, records={"name": "rewind_to_delete_convex"}, problem="tanh")
    refused = deletion(lambda f: 1.0, records={"name": "x_strongly_convex"}, problem="tanh", admitted=False)
    assert shapes([unknown]) == shapes([unknown, refused]) == {"tanh": OTHER}
    assert shapes([unknown, convex]) == {"tanh": "Convex"}
    assert shapes(three()[:1]) == {"tanh": NONCONVEX}


def test_the_proven_rate_is_drawn_beside_the_measured_one():
    ridge = three()[2]
    proven = deletion(
        lambda f: 0.01**f, records={"name": "rewind_to_delete_strongly_convex"}, problem="ridge", hyper={"eta": 0.1}
    )
    proven.bounds["rewind_to_delete_strongly_convex"][:] = 5 * 0.1 ** (proven.runs["hp_K"].to_numpy()[:, None] / 100)
    (axis,) = approach_figure([ridge, proven]).axes
    assert [text.get_text() for text in axis.texts] == ["proven rate γᴷ"]
    line = next(line for line in axis.get_lines() if len(line.get_xdata()) == 5 and line.get_linewidth() == 1)
    assert np.allclose(line.get_ydata(), 0.1 ** np.array(FRACTIONS) * 1.025)
    proven.runs["hp_eta"] = 0.2
    assert not approach_figure([ridge, proven]).axes[0].texts


def test_runs_that_stop_before_descending_ends_are_not_drawn():
    made = three()[0]
    made.runs["steps"] = 150
    assert set(approaches([made])["fraction"]) == {0.0, 0.1, 0.5}
