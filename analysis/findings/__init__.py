"""What docs/findings.md and the README say of the archive's runs: numbers, intervals, verdicts."""
