"""A test module that fails in every way a test can, for the tests of the harness. Not collected by pytest."""

import os
import signal
import time
import unittest


class Misbehaving(unittest.TestCase):
    def test_1_passes(self) -> None:
        pass

    def test_2_hangs(self) -> None:
        while True:
            time.sleep(3600)

    def test_3_passes_after_the_hang(self) -> None:
        pass

    def test_4_kills_the_interpreter(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def test_5_exits(self) -> None:
        os._exit(0)

    def test_6_fails(self) -> None:
        self.assertEqual(1, 2)

    def test_7_fails_in_a_subtest(self) -> None:
        for number in (1, 2):
            with self.subTest(number=number):
                self.assertEqual(number, 1)

    @unittest.skip("for a reason")
    def test_8_skipped(self) -> None:
        pass

    @unittest.expectedFailure
    def test_9_fails_as_expected(self) -> None:
        self.fail()


class FailsOnce(unittest.TestCase):
    def test_it(self) -> None:
        marker = os.environ["CONFORMANCE_MARKER"]
        if not os.path.exists(marker):
            with open(marker, "w"):
                pass
            self.fail("the first attempt fails")


class BrokenFixture(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        raise RuntimeError("no set-up")

    def test_never_runs(self) -> None:
        pass
