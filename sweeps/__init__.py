"""Many runs: plan, driver, workers, replicas, executors, cost, progress, status."""
