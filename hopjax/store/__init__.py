"""One life of a folder, for studies and tunings alike."""

from hopjax.store.batches import batch_size as batch_size
from hopjax.store.dataset import load_kept as load_kept, load_result as load_result
from hopjax.store.files import Damaged as Damaged, StudyError as StudyError
from hopjax.store.folder import Store as Store
from hopjax.store.identity import (
    canonical as canonical,
    describe as describe,
    digest as digest,
    provenance as provenance,
)
from hopjax.store.kept import (
    AbstractKept as AbstractKept,
    Parts as Parts,
    open_folder as open_folder,
    origin as origin,
    with_environment as with_environment,
)
from hopjax.store.programs import (
    ACCEPT as ACCEPT,
    Code as Code,
    accepted as accepted,
    check_accept as check_accept,
    check_version as check_version,
    make_code as make_code,
    place_of as place_of,
)
from hopjax.store.unfinished import (
    has_result as has_result,
    looking_at as looking_at,
    view_in as view_in,
)
from hopjax.store.values import (
    label as label,
    labels as labels,
    plain as plain,
    text as text,
)
