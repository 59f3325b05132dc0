"""The command `hopjax`: studies and tunings from files."""

from hopjax.command.file import FileError as FileError
from hopjax.command.page import save_page as save_page
from hopjax.command.study_file import read_study as read_study
from hopjax.command.tune_file import TuningArguments as TuningArguments, read_tuning as read_tuning
