"""Fine-tuning:  from x_T, K times u+ = u - eta_tune grad f_B(u), B a minibatch of D', published as it is.

Source: Golatkar, Achille & Soatto (2020), arXiv:1911.04933, where it is the baseline that trusts a network to forget
what it is not reminded of. The run of `algorithms.tuning` whose direction is the gradient of b records of D';
Descent-to-Delete by minibatches, with a step size of its own and without noise. Nothing is proven about it.
"""

from algorithms.algorithm import Algorithm
from algorithms.theorem import Source
from algorithms.tuning import METRICS, HParams, advance, init, prepare, readout, retained_rows
from problems.oracles import Oracle


def step(problem, state, key, hp):
    return advance(problem, state, hp, retained_rows(problem, key, hp.batch_size).grad(state.x))


algorithm = Algorithm(
    name="fine_tuning",
    source=Source(
        "Golatkar, Achille & Soatto",
        2020,
        "Eternal sunshine of the spotless net: selective forgetting in deep networks",
        "arXiv:1911.04933",
    ),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    prepare=prepare,
    metrics=METRICS,
)
