"""The Helm chart: rendered by Helm's own engine, and held against Kubernetes and against the gateway."""
