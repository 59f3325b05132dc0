"""One life of a folder, for studies and tunings alike."""

from hopjax.store.dataset import load_result as load_result
from hopjax.store.folder import (
    Damaged as Damaged,
    Store as Store,
    StudyError as StudyError,
)
from hopjax.store.identity import (
    PACKAGES as PACKAGES,
    canonical as canonical,
    describe as describe,
    digest as digest,
    environment as environment,
    provenance as provenance,
    version_of as version_of,
)
from hopjax.store.programs import (
    ACCEPT as ACCEPT,
    Code as Code,
    accepted as accepted,
    begin as begin,
    check_accept as check_accept,
    check_version as check_version,
    first_difference as first_difference,
    go_on as go_on,
    make_code as make_code,
    origin as origin,
    refuse_changes as refuse_changes,
)
from hopjax.store.values import (
    label as label,
    labels as labels,
    plain as plain,
    text as text,
)
