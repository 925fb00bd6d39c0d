"""Response caches. Production takes `NoCache` and never imports the other."""
