"""What the bits of a result may depend on beside its program."""

import pytest

from hopjax.program.environment import described

INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz
cpu MHz\t\t: 2400.000
flags\t\t: fpu vme sse sse2 ht ssse3 fma sse4_1 sse4_2 avx f16c bmi1 avx2 bmi2 avx512f md_clear
bugs\t\t: spectre_v1

processor\t: 1
model name\t: another
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes fphp asimdhp sve
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1
"""


@pytest.mark.parametrize(
    ("text", "model", "sets"),
    [
        (
            INTEL,
            "Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz",
            "avx avx2 avx512f bmi1 bmi2 f16c fma sse sse2 sse4_1 sse4_2 ssse3",
        ),
        (ARM, "0x41 8 0x1 0xd40", "asimd asimdhp fphp sve"),
    ],
)
def test_processors_are_told_apart(text, model, sets):
    assert described(text) == (model, sets)


def test_a_processor_that_says_nothing_has_a_kind():
    model, sets = described("")
    assert model
    assert sets == ""
