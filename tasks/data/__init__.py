"""Where bytes come from: fetching, readers, splits, caches."""
