"""What the user's code computes: what it reaches, the program of it, and where that runs."""

from hopjax.program.code import (
    Reached as Reached,
    reached as reached,
    sources_of as sources_of,
)
from hopjax.program.environment import (
    PACKAGES as PACKAGES,
    environment as environment,
    version_of as version_of,
)
from hopjax.program.names import is_installed as is_installed
from hopjax.program.program import (
    Program as Program,
    as_code_is as as_code_is,
    as_written as as_written,
    compiled as compiled,
    is_array as is_array,
    program_of as program_of,
    remember as remember,
    running as running,
    tracing as tracing,
    under_this_mark as under_this_mark,
)
