"""A sweep over parameters: many trials in every cell, resumable, as one labelled dataset."""

from hopjax.study.load import load_study as load_study
from hopjax.study.study import Study as Study
from hopjax.study.sweep import (
    OF_THE_SOLVE as OF_THE_SOLVE,
    check_number_of_cells as check_number_of_cells,
)
from hopjax.study.unfinished import (
    is_unfinished_study as is_unfinished_study,
    load_unfinished_study as load_unfinished_study,
)
