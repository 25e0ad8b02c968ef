"""Files for the parent as editors write them, parsed like wg-server does."""

import tempfile
import unittest
from pathlib import Path

from failure import Failure
from image import measured
from operator_files import FORWARD, ROOT
from parent import allow_list, check_config

HOSTS = ["kms.eu-central-1.amazonaws.com", "secretsmanager.eu-central-1.amazonaws.com"]
BOM = b"\xef\xbb\xbf"


class Texts(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def written(self, content: bytes) -> bytes:
        (self.folder / "work").mkdir(exist_ok=True)
        return allow_list(self.file("list", content), HOSTS, self.folder / "work").read_bytes()

    def config(self) -> bytes:
        """A valid parent.toml."""
        sample = (ROOT / "config/parent/parent.toml").read_text()
        return sample.replace('uplink = "eth0"\n', "").replace("\n[dns]\n", FORWARD + "\n[dns]\n").encode()

    def test_a_list_that_has_the_names_gets_none_however_it_is_written(self) -> None:
        first, second = (host.encode() for host in HOSTS)
        for content in (
            BOM + first + b"\n" + second + b"\n",
            BOM + first + b"\r\n" + second + b"\r\n",
            first + b"\r\n" + second,
            first + b" # the key\n\t" + second + b"# the secret\n",
            first.upper() + b".\n" + second + b".\n",
            b"*.eu-central-1.amazonaws.com.\n",
            b"*.amazonaws.com # all of AWS\n",
        ):
            with self.subTest(content):
                self.assertEqual(self.written(content), content.removeprefix(BOM))

    def test_a_name_that_wg_server_does_not_read_is_added(self) -> None:
        for content in (f"# {HOSTS[0]}\n", f"x\x0c{HOSTS[0]}\n", f"x\u2028{HOSTS[0]}\n", f"x\r{HOSTS[0]}\n", f"{HOSTS[0]}..\n"):
            with self.subTest(content):
                self.assertIn(HOSTS[0].encode(), self.written(content.encode()).split(b"\n"))

    def test_a_list_keeps_its_words_and_gets_lines_of_its_own(self) -> None:
        content = "# für die Bücher\r\naws.com\r\n".encode()
        written = self.written(content)
        self.assertTrue(written.startswith(content), written)
        self.assertEqual([line.strip() for line in written.decode().split("\n")[-3:]], [*HOSTS, ""])

    def test_a_configuration_with_a_byte_order_mark_or_crlf_is_right(self) -> None:
        for content in (self.config(), BOM + self.config(), self.config().replace(b"\n", b"\r\n")):
            check_config(self.file("parent.toml", content))

    def test_what_is_not_utf_8_is_refused_by_its_path_with_what_is_expected(self) -> None:
        latin, utf_16 = "# für\n".encode("latin-1"), "aws.com\n".encode("utf-16")
        for content in (latin, utf_16, BOM + latin):
            for name, read in (
                ("dns-allow-list.txt", lambda path: allow_list(path, HOSTS, self.folder)),
                ("parent.toml", check_config),
                ("measurements.json", measured),
            ):
                with self.subTest(name, content=content), self.assertRaises(Failure) as caught:
                    read(self.file(name, content))
                offset = content.index(b"\xfc" if latin in content else b"\xff")
                said = f"{self.folder}/{name}: byte 0x{content[offset]:02x} at offset {offset} is not UTF-8; expected UTF-8: "
                self.assertTrue(str(caught.exception).startswith(said), str(caught.exception))


if __name__ == "__main__":
    unittest.main()
