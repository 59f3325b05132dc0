"""Hopfield networks: what an input does to them (`drive`) and how they move (`drift`)."""

from hopjax.models.attention import DynamicAttention as DynamicAttention
from hopjax.models.base import (
    AbstractHopfield as AbstractHopfield,
    AbstractOneLayerHopfield as AbstractOneLayerHopfield,
)
from hopjax.models.bipolar import (
    AbstractBipolarHopfield as AbstractBipolarHopfield,
    ClassicHopfield as ClassicHopfield,
    DecorrelatedHopfield as DecorrelatedHopfield,
    IDPHopfield as IDPHopfield,
)
from hopjax.models.capacity import (
    check_capacity as check_capacity,
    lengthened as lengthened,
    shortened as shortened,
    with_room as with_room,
)
from hopjax.models.closed_form import ClosedForm as ClosedForm
from hopjax.models.firing_rate import FiringRateHopfield as FiringRateHopfield
from hopjax.models.sequential import SequentialHopfield as SequentialHopfield
from hopjax.models.two_layer import (
    AbstractSeparation as AbstractSeparation,
    DenseHopfield as DenseHopfield,
    LinearSeparation as LinearSeparation,
    PowerSeparation as PowerSeparation,
    SoftmaxSeparation as SoftmaxSeparation,
    TwoLayerHopfield as TwoLayerHopfield,
)
