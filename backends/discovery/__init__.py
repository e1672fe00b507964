"""Where the backends of a model are found while the gateway runs: a file, DNS, Kubernetes."""
