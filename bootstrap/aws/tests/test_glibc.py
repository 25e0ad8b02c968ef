"""glibc.sh against programs compiled here."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

AWS_DIR = Path(__file__).resolve().parents[1]


class Glibc(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def check(self, source: str, *flags: str) -> str:
        """Compiles a program; returns the output of glibc.sh."""
        program = self.folder / "program"
        command = ["gcc", "-x", "c", "-", "-o", program, "-fno-builtin", "-Wl,--no-as-needed", *flags]
        subprocess.run(command, input=source, check=True, text=True)
        environment = {name: value for name, value in os.environ.items() if name != "TARGET_GLIBC"}
        command = [AWS_DIR / "glibc.sh", program]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        self.assertEqual(done.returncode == 0, done.stderr == "", done)
        return done.stderr

    def test_a_program_for_an_old_glibc_is_accepted(self) -> None:
        self.assertEqual(self.check("int main(void) { return 0; }"), "")

    def test_a_newer_symbol_is_named(self) -> None:
        # Of glibc 2.36.
        said = self.check("unsigned arc4random(void); int main(void) { return arc4random(); }")
        self.assertIn("program: needs glibc 2.36 (arc4random), Amazon Linux 2023 has 2.34", said)

    def test_a_missing_library_is_named(self) -> None:
        said = self.check("int main(void) { return 0; }", "-lresolv")
        self.assertIn("program: needs libresolv.so.2, which Amazon Linux 2023 may not have", said)
