"""What came of each vector, told as it comes."""


class Report:
    """Counts, and prints a line or two for each vector."""

    def __init__(self, quiet=False):
        self.passed, self.failed, self.skipped, self.quiet = 0, 0, 0, quiet

    def tell(self, name, section, expected, actual, wrong):
        """One vector; `wrong`: what differs, empty where it passed."""
        if not wrong:
            self.passed += 1
            if not self.quiet:
                print("pass    %s" % name, flush=True)
            return
        self.failed += 1
        print("FAILED  %s (SPECIFICATION §%s)" % (name, section))
        for why in wrong:
            print("        " + why)
        print("        expected %s" % (expected,))
        print("        actual   %s" % (actual,), flush=True)

    def skip(self, name, why):
        """One that could not be asked."""
        self.skipped += 1
        print("skip    %s: %s" % (name, why), flush=True)

    def end(self):
        """The totals, and the exit code: 0 all passed, 1 some failed, 2 nothing was tried."""
        print("%d passed, %d failed, %d skipped" % (self.passed, self.failed, self.skipped))
        if self.failed:
            return 1
        return 0 if self.passed else 2
